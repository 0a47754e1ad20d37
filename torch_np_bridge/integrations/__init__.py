"""Other libraries beside the bridge: ``ray``, ``lightning`` and ``arrow``, each a module with its library as an extra.

``import torch_np_bridge`` imports none of them, and importing this package none of their libraries.
"""
