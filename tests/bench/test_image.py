"""What the bench of the image reads from the Dockerfile."""

from image import DOCKERFILE, read_recipe


def test_recipe_has_the_steps_in_order_and_the_user_of_the_dockerfile() -> None:
    recipe = read_recipe(DOCKERFILE.read_text(encoding="utf-8"))
    kinds = [kind for kind, _ in recipe.steps]
    assert recipe.base.startswith("debian:")
    assert kinds.count("COPY") == 1
    assert kinds.index("COPY") < max(at for at, kind in enumerate(kinds) if kind == "RUN")
    assert "libnuma1" in recipe.steps[0][1], "vLLM for CPUs does not start without it"
    assert (recipe.user, recipe.folder, recipe.entrypoint) == ("whereupon", "/data", ["whereupon"])
    assert recipe.environment["TORCH"].startswith("torch==")
    assert recipe.environment["PATH"].startswith("/opt/venv/bin:")


def test_comments_are_left_out_and_continued_lines_are_one_step() -> None:
    recipe = read_recipe(
        'FROM debian:x\n# a comment\nRUN one \\\n    && two\nENV A="b"\nCOPY . /there\nCMD ["serve"]\n'
    )
    assert [(kind, " ".join(step.split())) for kind, step in recipe.steps] == [
        ("RUN", "one && two"),
        ("COPY", ". /there"),
    ]
    assert recipe.environment == {"A": "b"}
