"""The same mathematics in other shapes, each verified against the exact one and each with its bound."""

from handprop.nn.forms.table import FORMS, Form

__all__ = ["FORMS", "Form"]
