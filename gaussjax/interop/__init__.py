"""Policies from other libraries as gaussjax's, and gaussjax's in other libraries."""
