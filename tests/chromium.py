"""The Chromium of this machine, if it has one."""

import shutil

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def chromium() -> str | None:
    """Path of an installed Chromium; Playwright's own is never downloaded."""
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)
