"""The verbs of prompts: shown as the model reads them, compared, and checked."""

from typing import Annotated

import typer

from .verbs import At, ConfigFile, Debug, Overrides, Place, Weather, verb

prompt_app = typer.Typer(no_args_is_help=True, help="Show, compare and check the text that the model reads.")

User = Annotated[str, typer.Option("--user", metavar="U", help="The user_id.")]
_SIDE = "A template set, a folder, or settings of prompts such as 'template=places; budget_tokens=512'."


@prompt_app.command("show")
def show(
    config: ConfigFile,
    user: User,
    at: At = None,
    weather: Weather = None,
    place: Place = None,
    ids: Annotated[bool, typer.Option("--ids", help="Print token ids as JSON instead of text.")] = False,
    set_: Overrides = None,
    debug: Debug = False,
) -> None:
    """Print exactly what the model reads, with token counts."""
    with verb("prompt show", config, set_, debug) as settings:
        from .recommend.context import RequestContext
        from .recommend.shown import show_prompt

        show_prompt(settings, user, RequestContext(at, weather, place), ids=ids)


@prompt_app.command("diff")
def diff(
    config: ConfigFile,
    one: Annotated[str, typer.Argument(metavar="A", help=_SIDE)],
    other: Annotated[str, typer.Argument(metavar="B", help="The same, for the other prompt.")],
    user: Annotated[
        str | None, typer.Option("--user", metavar="U", help="The user_id; default: who has the most events.")
    ] = None,
    at: At = None,
    weather: Weather = None,
    place: Place = None,
    set_: Overrides = None,
    debug: Debug = False,
) -> None:
    """Print how two prompts differ, and how many tokens each takes."""
    with verb("prompt diff", config, set_, debug) as settings:
        from .recommend.context import RequestContext
        from .recommend.prompt_verbs import diff_prompts

        context = RequestContext(at, weather, place)
        diff_prompts(settings, one, other, user, context, settings.histories.time_zone)


@prompt_app.command("lint")
def lint(config: ConfigFile, set_: Overrides = None, debug: Debug = False) -> None:
    """Check a template. Finds unknown variables, leaks, unclear line ends, a bad token budget, injected text.

    Exits with 1 if there is an error.
    """
    with verb("prompt lint", config, set_, debug) as settings:
        from .recommend.prompt_verbs import lint_prompts

        found = lint_prompts(settings)
    if any(one.level == "error" for one in found):
        raise typer.Exit(1)


@prompt_app.command("fields")
def fields(config: ConfigFile, set_: Overrides = None, debug: Debug = False) -> None:
    """Print what each field says of the next item, in bits, and its tokens.

    Weather and other numbers have a second table: bits given the user's routine, and principal components.
    """
    with verb("prompt fields", config, set_, debug) as settings:
        from .recommend.prompt_fields import print_fields

        print_fields(settings)
