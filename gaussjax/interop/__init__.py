"""Conversion of policies of other libraries to gaussjax, and use of gaussjax policies in them."""
