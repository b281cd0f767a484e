"""`python -m training.recipes`: every recipe with its time, memory and command."""

from __future__ import annotations

from training import recipes
from training.train import command_line


def main() -> None:
    """Print the recipes as a Markdown list."""
    known = recipes.known_options(command_line())
    for name in recipes.NAMES:
        recipe = recipes.read(name, known)
        stages = ", then ".join(leg.stage.name for leg in recipe.legs)
        print(f"## {name}\n{recipe.about}\n\nStages {stages}. Time: {recipe.time}. Memory: {recipe.memory}.\n")
        print("    " + recipe.command.replace("\n", "\n    ") + "\n")


if __name__ == "__main__":
    main()
