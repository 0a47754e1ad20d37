"""The commands of ``python -m torch_np_bridge``, one file each, and what they share."""
