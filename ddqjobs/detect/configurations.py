"""Find configurations that are named as mmengine names those of packages: ``mmdet::ddq/NAME.py``.

mmengine itself finds them as bases alone.
"""

from __future__ import annotations

from .runtime import CannotLoad


def located(config: str) -> str:
    """Return the path of a configuration's file, which a package of the environment has if it is named so.

    Raises CannotLoad for a package or a file that is not there.
    """
    if "::" not in config:
        return config
    from mmengine.config import Config

    try:
        return str(Config._get_cfg_path(config, "")[0])
    except Exception as error:  # of mmengine, of importlib or of a file
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CannotLoad(f"{config}: {said}") from error
