"""Recurrent layers and the policy networks that hold them."""
