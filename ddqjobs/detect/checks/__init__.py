"""Check a configuration before it runs (:mod:`ddqjobs.detect.check`)."""
