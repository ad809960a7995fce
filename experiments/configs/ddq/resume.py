"""The run's own configuration, with what lets its training go on after an interruption (docs/explanation/resume.md).

For code trees that train with mmengine's runner: the release's branch ddq_detr, and mmdet 3.x.
"""

# mmengine evaluates this line by itself, among its own names. An import of os would make it take the file for
# one of its newer style.
_base_ = os.environ["DDQJOBS_CONFIG"]
custom_imports = dict(
    imports=[*_base_.get("custom_imports", {}).get("imports", []), "ddqjobs.detect.hooks.resume"],
    allow_failed_imports=False,
)
custom_hooks = [*(_base_.get("custom_hooks") or []), dict(type="ResumeHook")]
