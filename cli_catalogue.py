"""The verbs of the catalogue: shown, and edited without training."""

from pathlib import Path
from typing import Annotated

import typer

from .verbs import ConfigFile, Debug, Overrides, verb

catalogue_app = typer.Typer(no_args_is_help=True, help="Change what can be recommended, without training.")

ItemsFile = Annotated[Path, typer.Argument(metavar="ITEMS", help="CSV or Parquet with the columns of histories.items.")]


@catalogue_app.command("show")
def show(config: ConfigFile, set_: Overrides = None, debug: Debug = False) -> None:
    """Show how many items there are, and what was edited."""
    with verb("catalogue show", config, set_, debug) as settings:
        from .recommend.catalogue_verbs import show

        show(settings)


@catalogue_app.command("add")
def add(config: ConfigFile, items: ItemsFile, set_: Overrides = None, debug: Debug = False) -> None:
    """Add new items; existing items keep their titles."""
    with verb("catalogue add", config, set_, debug) as settings:
        from .recommend.catalogue_verbs import add

        add(settings, items)


@catalogue_app.command("replace")
def replace(config: ConfigFile, items: ItemsFile, set_: Overrides = None, debug: Debug = False) -> None:
    """Replace attributes of items. Titles that are made of them change too."""
    with verb("catalogue replace", config, set_, debug) as settings:
        from .recommend.catalogue_verbs import replace

        replace(settings, items)


@catalogue_app.command("remove")
def remove(
    config: ConfigFile,
    item_ids: Annotated[list[str], typer.Argument(metavar="ITEM_ID...", help="Ids of the items.")],
    set_: Overrides = None,
    debug: Debug = False,
) -> None:
    """Remove items; they still appear as past events in prompts."""
    with verb("catalogue remove", config, set_, debug) as settings:
        from .recommend.catalogue_verbs import remove

        remove(settings, item_ids)


@catalogue_app.command("reset")
def reset(config: ConfigFile, set_: Overrides = None, debug: Debug = False) -> None:
    """Undo all edits: serve the items of the prepared histories again."""
    with verb("catalogue reset", config, set_, debug) as settings:
        from .recommend.catalogue_verbs import reset

        reset(settings)
