"""The run's own configuration, with what lets its training go on after an interruption (docs/explanation/resume.md).

For the release's branch main, which trains with mmcv 1.x's runner. Its configurations have no hooks and no
imports of their own.
"""

import os

_base_ = os.environ["DDQJOBS_CONFIG"]
del os  # mmcv 1.x takes every name for a setting

custom_imports = dict(imports=["ddqjobs.detect.hooks.resume_mmcv1"], allow_failed_imports=False)
custom_hooks = [dict(type="ResumeHook", priority="VERY_HIGH")]
