"""What mmdet calls of panopticapi, which no package index has: the same definitions, for its tests."""
