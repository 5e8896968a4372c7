//! Modules, losses and optimisers.
