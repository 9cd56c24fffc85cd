"""Direct simulation of finite networks, and what is measured on them."""
