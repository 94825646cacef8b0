"""Recurrent layers, and the policy networks that contain them."""
