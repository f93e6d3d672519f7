"""Many models of one V: which number of components, and how far the answer can be trusted."""
