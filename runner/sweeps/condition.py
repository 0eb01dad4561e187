"""The condition `where=...`, which selects combinations of a grid."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runner.formulas.parser import Formula
from runner.messages.errors import UserError, nearest
from runner.messages.ranges import shown


@dataclass(frozen=True)
class Condition:
    """A formula whose variables are keys of the config."""

    formula: Formula

    def holds(self, tree: Mapping[str, Any]) -> bool:
        """Return whether the formula is true for a resolved config.

        Raises:
            UserError: the config does not have a key, a value is not a number and not compared with a text, or the
                formula has no value.
        """
        values = {key: self._value(tree, key) for key in self.formula.variables}
        try:
            return bool(self.formula.evaluate(values))
        except (ArithmeticError, ValueError, TypeError) as error:  # TypeError: a complex number is compared
            raise UserError(f"where={self.formula.text}: has no value ({error})") from None

    def _value(self, tree: Mapping[str, Any], key: str) -> Any:
        value: Any = tree
        for part in key.split("."):
            if not isinstance(value, Mapping) or part not in value:
                known = value if isinstance(value, Mapping) else ()
                raise UserError(f"where={self.formula.text}: no key '{key}'{nearest(part, map(str, known))}")
            value = value[part]
        if key in self.formula.texts:
            return value.get("name") if isinstance(value, Mapping) else value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"where={self.formula.text}: expected numbers, {key} is {shown(value)}")
        return value
