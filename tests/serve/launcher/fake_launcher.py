"""`python fake_launcher.py serve CONFIG ...`: whereupon with fake_vllm.py as its server, in the mode FAKE_MODE."""

import os
import sys
from pathlib import Path
from typing import Any

from whereupon.cli import main
from whereupon.serve.launcher import launch


def _command(config: Any, weights: Any, dtype: str, device: str, address: launch.Address) -> list[str]:
    fake = Path(__file__).with_name("fake_vllm.py")
    return [sys.executable, str(fake), str(address.port), os.environ.get("FAKE_MODE", "")]


launch.server_command = _command  # type: ignore[assignment]

if __name__ == "__main__":
    main()
