//! User tensors, traced into the graph.
