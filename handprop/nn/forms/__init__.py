"""Other ways to compute the same network, each verified against the exact form and with an error bound."""

from handprop.nn.forms.table import FORMS, Form

__all__ = ["FORMS", "Form"]
