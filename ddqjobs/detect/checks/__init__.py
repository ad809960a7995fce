"""What can be said of a configuration before it runs (:mod:`ddqjobs.detect.check`)."""
