"""The configuration of a run: one YAML file, one frozen model, one section for each stage."""

import difflib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Final, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from .errors import ConfigError, DataError
from .eval.settings import EvaluateSettings
from .files import NameOrFolder, read_object
from .finetune.settings import FinetuneSettings, TuneSettings
from .rankers.settings import RunConfig
from .serve.settings import ServeConfig

KeyPath = tuple[str | int, ...]

_PASSWORD = re.compile(r"(?<=://).*(?=@)|(?<=password=)[^&\s]*", re.IGNORECASE)
_VARIABLE = re.compile(r"\$(?:(?P<bare>\w+)|\{(?P<braced>[^}]*)\})")


ON_TOP_TEMPERATURE: Final = 2.5


class Config(ServeConfig):
    """Everything a verb needs to know. Paths are absolute once loaded."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    finetune: FinetuneSettings = Field(default_factory=FinetuneSettings)
    evaluate: EvaluateSettings = Field(default_factory=EvaluateSettings)
    tune: TuneSettings = Field(default_factory=TuneSettings)

    @property
    def on_top(self) -> bool:
        """Whether the model trains on top of the rankers of `priors`."""
        return self.priors != "none" if self.finetune.on_top is None else self.finetune.on_top

    @property
    def temperature(self) -> float:
        """That of training, or with which it begins: `finetune.temperature`, or what it stands for."""
        if isinstance(self.finetune.temperature, float):
            return self.finetune.temperature
        return ON_TOP_TEMPERATURE if self.on_top else 1.0

    @model_validator(mode="after")
    def _priors_are_there(self) -> "Config":
        if self.finetune.on_top and self.priors == "none":
            raise ValueError("finetune.on_top needs rankers to train on top of; set priors: auto")
        if self.finetune.objective != "catalogue" and self.on_top:
            raise ValueError(
                f"finetune.objective {self.finetune.objective} cannot be trained on top of rankers; set "
                "finetune.on_top: false"
            )
        return self

    def changed_settings(self) -> Iterator[str]:
        """Each setting that is not its default, as `section.key: value` lines."""
        yield from _flat(self.shown(exclude_defaults=True))

    def shown(self, exclude_defaults: bool = False) -> dict[str, Any]:
        """The settings as JSON for eyes and records: without the password that the URL of a database may hold."""
        data = self.model_dump(mode="json", exclude_defaults=exclude_defaults)
        if events := data.get("serve", {}).get("events"):
            data["serve"]["events"] = _PASSWORD.sub("***", events)
        return data


def load_config(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Config:
    """Read a YAML configuration, apply `a.b=c` overrides, check it, and make its paths absolute.

    Paths in the file are relative to the file's folder, paths in overrides to the current one; `~` and `$VAR` are
    expanded in both. A setting that holds a name or a folder (`NameOrFolder`) keeps its known names. Other text is a
    folder if it looks like a path, if such a folder exists, or if nothing else is allowed. Override values are read as
    YAML (`null`, `true`, `[1, 2]`, `0.5`). Raises ConfigError: unreadable file, unknown or missing key, value of the
    wrong kind, unset variable in a path.
    """
    file = Path(path)
    data, line_of = _read_yaml(file)
    return _validated(data, file, line_of, overrides, file.resolve().parent)


def _validated(
    data: dict[str, Any], file: Path, line_of: dict[KeyPath, int], overrides: Sequence[str], folder: Path
) -> Config:  # fmt: skip
    overridden = {_apply(override, data): override for override in overrides}
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        raise ConfigError(_explain(error, file, line_of, overridden)) from None
    located: Config = _located(config, (), folder, overridden)
    if located.run.exists() and not located.run.is_dir():
        raise ConfigError(f"run should name a folder for results but {located.run} is a file; choose another name.")
    return located


def configured(source: RunConfig | Mapping[str, Any] | str | os.PathLike[str], overrides: Sequence[str] = ()) -> Config:
    """The configuration that `source` stands for, with `a.b=c` overrides; errors are those of `load_config`.

    `source` is a configuration, its YAML file, a dictionary of the same shape (its paths are relative to the current
    folder), or a run folder, whose last verb's settings are taken from `run.json`; where none has run, or its record
    hides a password, that is a ConfigError too.
    """
    if isinstance(source, Config) and not overrides:
        return source
    if isinstance(source, RunConfig):
        data, name = source.model_dump(mode="json"), Path("the configuration")
    elif isinstance(source, Mapping):
        data, name = deepcopy(dict(source)), Path("the dictionary")
    elif Path(source).is_dir():
        data, name = _recorded(Path(source)), Path(source) / "run.json"
    else:
        return load_config(source, overrides)
    return _validated(data, name, {}, overrides, Path.cwd())


def _recorded(run: Path) -> dict[str, Any]:
    """The settings that the last verb in a run folder was started with; the folder may have been moved since."""
    try:
        record = read_object(run / "run.json")
    except DataError as error:
        raise ConfigError(f"{run} is no run folder ({error}) Name the YAML file of its configuration.") from None
    verbs = [verb for verb in record.values() if isinstance(verb, dict) and isinstance(verb.get("config"), dict)]
    if not verbs:
        raise ConfigError(f"{run / 'run.json'} holds no settings of a verb; name the YAML file of its configuration.")
    data: dict[str, Any] = max(verbs, key=lambda verb: str(verb.get("started")))["config"]
    if "***" in str(data.get("serve", {}).get("events")):
        raise ConfigError(
            f"{run / 'run.json'} does not keep the password of serve.events; name the YAML file of its configuration."
        )
    return data | {"run": str(run.resolve())}


# Reading: YAML with the line of each key, and overrides laid over it.


def _read_yaml(file: Path) -> tuple[dict[str, Any], dict[KeyPath, int]]:
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"The configuration {file} does not exist; examples/ holds some to start from.") from None
    except IsADirectoryError:
        raise ConfigError(f"The configuration {file} is a folder; name the YAML file in it.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not UTF-8 text (byte {error.start}); save it as UTF-8.") from None
    line_of: dict[KeyPath, int] = {}
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None:
            _note_lines(node, (), line_of, file)
        data = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        hint = ""
        if "cannot start any token" in str(error.problem):
            hint = "; indent with spaces, and put quotes around a value that begins with such a character"
        elif "unknown escape" in str(error.problem):
            hint = "; put single quotes around a path with backslashes"
        raise ConfigError(f"{file}, line {line}: not valid YAML ({error.problem}){hint}.") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{file} is not valid YAML ({' '.join(str(error).split())}).") from None
    data = {} if data is None else data
    if not isinstance(data, dict):
        raise ConfigError(f"{file} should hold `key: value` lines, found a {type(data).__name__}.")
    return data, line_of


def _note_lines(node: yaml.Node, at: KeyPath, line_of: dict[KeyPath, int], file: Path) -> None:
    """Fill `line_of` with the 1-based line of every key and list entry below `node`."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*at, str(key.value))
            if here in line_of:  # PyYAML would silently let the last one win
                second = key.start_mark.line + 1
                raise ConfigError(f"{file}, line {second}: {_dotted(here)} is on line {line_of[here]} already.")
            line_of[here] = key.start_mark.line + 1
            _note_lines(value, here, line_of, file)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            line_of[(*at, index)] = value.start_mark.line + 1
            _note_lines(value, (*at, index), line_of, file)


def _apply(override: str, data: dict[str, Any]) -> KeyPath:
    """Lay `a.b=c` over `data` in place; the path of the key that it set."""
    dotted, equals, text = override.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(f"--set {override}: expected section.key=value, such as --set seed=8.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"--set {override}: the value is not valid YAML; put quotes around it.") from None
    section = data
    for depth, key in enumerate(keys[:-1], start=1):
        if section.get(key) is None:
            section[key] = {}
        section = section[key]
        if not isinstance(section, dict):
            raise ConfigError(f"--set {override}: {_dotted(keys[:depth])} is a value, not a section.")
    section[keys[-1]] = value
    return tuple(keys)


# Explaining: one sentence that says where, what was found, and what was expected.


def _explain(
    error: ValidationError, file: Path, line_of: Mapping[KeyPath, int], overridden: Mapping[KeyPath, str]
) -> str:
    problems = error.errors(include_url=False)
    # An unknown key first: it usually is the misspelt form of a key that is then reported as missing.
    first = min(problems, key=lambda problem: problem["type"] != "extra_forbidden")
    more = f" ({len(problems)} such errors in all)" if len(problems) > 1 else ""
    return f"{_where(first['loc'], file, line_of, overridden)}: {_problem(first)}{more}."


def _where(at: KeyPath, file: Path, line_of: Mapping[KeyPath, int], overridden: Mapping[KeyPath, str]) -> str:
    for path, override in overridden.items():
        shared = min(len(path), len(at))
        if shared and path[:shared] == at[:shared]:  # the override set it, something around it, or something in it
            return f"--set {override}"
    while at and at not in line_of:  # a missing key is reported where its section stands
        at = at[:-1]
    return f"{file}, line {line_of[at]}" if at else str(file)


def _problem(problem: ErrorDetails) -> str:
    key = _dotted(problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = _known_keys(problem["loc"][:-1])
        nearest = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
        remedy = f"the nearest known one is {nearest[0]}" if nearest else "known here are " + ", ".join(known)
        return f"unknown key {key}; {remedy}"
    if problem["type"] == "missing":
        return f"{key} is missing"
    if problem["type"] == "model_type":
        return f"{key}: should be a section of `key: value` lines, found {problem['input']!r:.60}"
    message = problem["msg"].removeprefix("Value error, ").rstrip(".")
    found = repr(problem["input"])
    found = "" if isinstance(problem["input"], dict | BaseModel) else f", found {found[:60]}"
    return f"{key}: {message[:1].lower()}{message[1:]}{found}"


def _known_keys(section: KeyPath) -> list[str]:
    """Names of the settings that `section` may hold, sorted; indices of lists are passed over."""
    models: list[type[BaseModel]] = [Config]
    for part in section:
        fields = [model.model_fields[part] for model in models if isinstance(part, str) and part in model.model_fields]
        if fields:
            models = [model for field in fields for model in _models_in(field.annotation)]
    return sorted({name for model in models for name in model.model_fields})


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


# Paths: `~`, variables and relative paths, wherever a `Path` or a folder's name stands in the settings.


def _located(value: Any, at: KeyPath, folder: Path, overridden: Mapping[KeyPath, str]) -> Any:
    """`value` with every `Path` in it made absolute: below `folder`, or the current folder where an override set it."""
    if isinstance(value, Path):
        is_typed = any(at[: len(path)] == path for path in overridden)
        return Path(os.path.normpath((Path.cwd() if is_typed else folder) / _expanded(value, at)))
    if isinstance(value, BaseModel):
        located = {name: _located(held, (*at, name), folder, overridden) for name, held in value}
        for name, field in type(value).model_fields.items():
            for kind in field.metadata:
                if isinstance(kind, NameOrFolder):
                    path = str(_located(Path(located[name]), (*at, name), folder, overridden))
                    located[name] = path if _is_folder(located[name], path, kind) else located[name]
        return value.model_copy(update={name: new for name, new in located.items() if new != getattr(value, name)})
    if isinstance(value, dict):
        return {key: _located(held, (*at, key), folder, overridden) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_located(held, (*at, index), folder, overridden) for index, held in enumerate(value))
    return value


def _is_folder(text: str, path: str, kind: NameOrFolder) -> bool:
    if text in kind.names:
        return False
    return not kind.others or text.startswith((".", "~", os.sep)) or "$" in text or os.path.isdir(path)


def _expanded(path: Path, at: KeyPath) -> Path:
    def value_of(match: re.Match[str]) -> str:
        name = match["bare"] or match["braced"]
        if name not in os.environ:
            raise ConfigError(f"{_dotted(at)}: {path} needs the environment variable {name}, which is not set.")
        return os.environ[name]

    try:
        return Path(_VARIABLE.sub(value_of, str(path))).expanduser()
    except RuntimeError:  # pathlib's word for `~somebody` who does not exist
        raise ConfigError(f"{_dotted(at)}: {path} names a home folder that does not exist.") from None


def _dotted(at: Sequence[str | int]) -> str:
    return ".".join(map(str, at)) or "the configuration"


def _flat(section: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in section.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}: {value}"
