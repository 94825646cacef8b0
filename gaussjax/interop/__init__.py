"""Conversion of other libraries' policies to gaussjax, and use of gaussjax policies in those libraries."""
