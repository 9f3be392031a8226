"""Safety alignment of large reasoning models as composable JAX training transforms.

Array names carry their shape as a suffix (`logp_BxT`). The letters, everywhere in the package:

    B rows of a batch        T positions in a row      S traces in a row (static)   V vocabulary
    D model width            L layers                  F feed-forward width         H head dimension
    N query heads (models), samples of a group (advantages)
    K key-value heads (models), reward parts (advantages)
    G groups                 C cache positions         R rank of an adapter         W words, pieces or choices
    M modes: what a sample did (advantages)
"""

__version__ = "0.1.0"
