//! Datasets, loaders, transforms and metrics.
