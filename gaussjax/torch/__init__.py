"""The policies of gaussjax in PyTorch."""
