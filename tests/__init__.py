"""The tests of gaussjax: the same tree as the package."""
