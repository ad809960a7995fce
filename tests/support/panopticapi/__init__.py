"""The part of panopticapi that mmdet calls and no package index has: the same definitions, for its tests."""
