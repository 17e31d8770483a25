"""What `prepare` did, for the terminal: counts in sentences, and a table of the steps of cleaning."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from .splitting import CAVEATS, SPLITS
from .store import histories_folder


@dataclass(frozen=True)
class PrepareReport:
    """What `prepare` found and did; `manifest` is what stands in manifest.json."""

    run: Path
    manifest: dict[str, Any] = field(repr=False)

    def lines(self) -> list[str]:
        """A friendly account for the terminal; `table` says what cleaning did."""
        m = self.manifest
        lines = [
            *m["read_as"],
            *m["remarks"],
            f"{m['num_events']:,} events of {m['num_users']:,} users on {m['num_items']:,} items "
            f"({m['num_items_seen']:,} of them seen), {m['first_time'][:10]} to {m['last_time'][:10]}",
        ]
        for split in SPLITS:
            part = m["splits"][split]
            if split == "history" and not part["num_events"]:
                continue
            since = f", from {part['first_time']}" if part["num_events"] else ""
            lines.append(f"{split}: {part['num_events']:,} events{since}")
        protocol = m["settings"]["split"]["protocol"]
        if CAVEATS[protocol]:
            lines.append(f"{protocol}: {CAVEATS[protocol]}")
        if m["num_left_out_by_slice"]:
            lines.append(f"left out by the slice: {m['num_left_out_by_slice']:,} events")
        lines += [f"privacy: {line}" for line in self.privacy()]
        lines += [f"titles, {what}: {count:,}" for what, count in m["titles"].items() if count]
        lines.append(f"written to {histories_folder(self.run)}")
        return lines

    def steps(self) -> list[tuple[str, int, str]]:
        """What each step of cleaning did, how many rows it touched, and one example ("" where none is kept)."""
        steps = [
            (f"{step['kind']}, {step['source']}: {step['what']}", step["rows"], step["example"])
            for step in self.manifest["cleaning"]
        ]
        return [*steps, *((note, count, "") for note, count in self.manifest["notes"].items())]

    def privacy(self) -> list[str]:
        """What was hidden of users, in sentences; empty where nothing was."""
        done = self.manifest["privacy"]
        if done is None:
            return []
        lines = [f"{done['num_pseudonyms']:,} users have pseudonyms by the key whose check is {done['key_check']}"]
        if done["cell_km"] is not None:
            lines.append(f"places are the middles of {done['num_places']:,} squares of {done['cell_km']:g} km")
        if done["round_minutes"] is not None:
            lines.append(f"times are rounded down to {done['round_minutes']} minutes, events keep their order")
        if done["min_item_users"] is not None:
            fewest, num = done["min_item_users"], done["num_events_at_rare_items"]
            lines.append(f"items of fewer than {fewest} users are left out, with {num:,} events")
        return [*lines, "of rejected events, only row and reason are kept"]

    def table(self) -> Table:
        """The steps of cleaning: a row a step."""
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 2, 0, 0))
        table.add_column("step", ratio=3)
        table.add_column("rows", justify="right", no_wrap=True)
        table.add_column("example", ratio=2, overflow="fold")
        for step, rows, example in self.steps():
            # Text, not str: brackets in the data are no markup.
            table.add_row(Text(step), f"{rows:,}", Text(example))
        return table
