"""The shared decoder: embed → layers → head, each callable alone, as pure functions over one parameter tree."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from lrm_align.models import partition, rope
from lrm_align.models.attention import attention, cached_attention, masked_attention, slot_attention
from lrm_align.models.cache import Cache, LayerCaches
from lrm_align.models.config import ModelConfig
from lrm_align.models.layer import Layer, rms_norm
from lrm_align.models.remat import rematerialised

Params = Any  # {"embed": V×D, "layers": {name: L×…}, "final_norm": D, ["head": D×V]}


@dataclasses.dataclass(frozen=True)
class Model:
    """The static half of a model; parameters are a separate pytree with layers stacked on axis 0.

    Attributes:
      config: the shape.
      dtype: of activations and matrix products; sums, norms and log-probabilities stay in float32.
      remat: a policy of `models.remat`.
      attention: a kernel of `models.attention`.
      scan: scan over layers; unrolled otherwise (slower to compile, for tests).
      rules: logical axis names to mesh axes.
    """

    config: ModelConfig
    dtype: str = "float32"
    remat: str = "none"
    attention: str = "auto"
    scan: bool = True
    rules: partition.Rules = partition.DEFAULT_RULES

    def init(self, key: jax.Array) -> Params:
        """Fresh float32 parameters: normal(0.02), residual outputs scaled by 1/√(2L), norms one, biases zero."""
        c = self.config
        embed_key, head_key, layer_key = (jax.random.fold_in(key, i) for i in range(3))

        def layer(key):
            return nnx.to_pure_dict(nnx.state(Layer(c, rngs=nnx.Rngs(params=key)), nnx.Param))

        params = {
            "embed": 0.02 * jax.random.normal(embed_key, (c.vocab_size, c.width)),
            "layers": jax.vmap(layer)(jax.random.split(layer_key, c.num_layers)),
            "final_norm": jnp.ones(c.width),
        }
        if not c.tied:
            params["head"] = 0.02 * jax.random.normal(head_key, (c.width, c.vocab_size))
        return params

    def head(self, params: Params) -> jax.Array:
        """The output matrix head_DxV, the transposed embedding where tied."""
        return params["embed"].T if self.config.tied else params["head"]

    def embed(self, params: Params, tokens: jax.Array) -> jax.Array:
        """Token vectors, tokens.shape + (D,)."""
        return params["embed"][tokens].astype(self.dtype)

    def hidden(
        self,
        params: Params,
        tokens_BxT: jax.Array,
        segment_ids_BxT: jax.Array | None = None,
        positions_BxT: jax.Array | None = None,
    ) -> jax.Array:
        """Final hidden states hidden_BxTxD, normed, ready for the head.

        Args:
          params: parameters.
          tokens_BxT: token ids.
          segment_ids_BxT: packed traces; one segment a row where None.
          positions_BxT: rotary positions; 0…T-1 where None.
        """
        x, _ = self._layers(params, tokens_BxT, segment_ids_BxT, positions_BxT, collect=False)
        return rms_norm(x, params["final_norm"], self.config.norm_eps)

    def logits(self, params, tokens_BxT, segment_ids_BxT=None, positions_BxT=None) -> jax.Array:
        """float32 logits_BxTxV, for tests and small uses: training and sampling never hold them for a batch."""
        hidden = self.hidden(params, tokens_BxT, segment_ids_BxT, positions_BxT)
        return head_logits(hidden, self.head(params))

    def init_cache(self, slots: int, length: int) -> Cache | LayerCaches:
        """An empty cache of `slots` rows of `length` positions, in the compute dtype; its layout follows `scan`."""
        c = self.config
        layout = Cache if self.scan else LayerCaches
        return layout.empty(c.num_layers, slots, length, c.num_kv_heads, c.head_dim, self.dtype)

    def prefill(
        self, params: Params, tokens_BxT: jax.Array, lengths_B: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Runs prompts padded on the right; returns hidden_BxTxD, k_LxBxTxKxH and v_LxBxTxKxH."""
        segment_ids_BxT = (jnp.arange(tokens_BxT.shape[1]) < lengths_B[:, None]).astype(jnp.int32)
        x, (k, v) = self._layers(params, tokens_BxT, segment_ids_BxT, None, collect=True)
        return rms_norm(x, params["final_norm"], self.config.norm_eps), k, v

    def extend(self, params: Params, k_LxPxKxH: jax.Array, v_LxPxKxH: jax.Array, tokens_BxT: jax.Array) -> jax.Array:
        """Hidden states hidden_BxTxD of rows that all go on from one prefix, whose keys and values are computed once.

        What `hidden` gives for the prefix and a row together, to rounding; padding on the right changes nothing. Keys
        of a dynamic rope depend on what follows them, so that nothing can be computed before.

        Args:
          params: parameters.
          k_LxPxKxH: keys of the prefix, as `prefill` returns them for one row.
          v_LxPxKxH: its values.
          tokens_BxT: token ids after it.
        """
        c, (B, T), P = self.config, tokens_BxT.shape, k_LxPxKxH.shape[1]
        assert c.rope.kind != "dynamic", "a prefix of a dynamic rope cannot be shared"
        cos, sin = rope.angles(c.rope, c.head_dim, jnp.broadcast_to(P + jnp.arange(T), (B, T)))
        mask_BxTxC = jnp.broadcast_to(jnp.tril(jnp.ones((T, P + T), bool), P), (B, T, P + T))

        def body(x_BxTxD, layer):
            layer_params, *prefix = layer
            block = self._layer(layer_params)
            q, *own = block.qkv(x_BxTxD, cos, sin)
            k, v = (
                jnp.concatenate([jnp.broadcast_to(old, (B, *old.shape)).astype(new.dtype), new], axis=1)
                for old, new in zip(prefix, own)
            )
            return block.rest(x_BxTxD, masked_attention(q, k, v, mask_BxTxC)), None

        x_BxTxD, _ = jax.lax.scan(body, self.embed(params, tokens_BxT), (params["layers"], k_LxPxKxH, v_LxPxKxH))
        return rms_norm(x_BxTxD, params["final_norm"], c.norm_eps)

    def decode(
        self, params: Params, cache: Cache | LayerCaches, tokens_B: jax.Array, positions_B: jax.Array
    ) -> tuple[jax.Array, Cache | LayerCaches]:
        """One token a slot: writes position positions_B[b] of slot b, attends to what stands there and before.

        Under a scan over layers the cache is read inside and written once after it, in place: as scanned inputs and
        outputs, or written layer by layer, XLA would copy it.

        Returns:
          hidden_BxD, normed, and the cache.
        """
        c = self.config
        # Under a dynamic rope, keys in the cache stay as they were written, as in transformers' generation.
        cos, sin = rope.angles(c.rope, c.head_dim, positions_B[:, None], positions_B[:, None] + 1)
        x = self.embed(params, tokens_B)[:, None]
        if isinstance(cache, Cache):
            x, cache = self._decode_scanned(params, cache, x, positions_B, cos, sin)
        else:
            x, cache = self._decode_unrolled(params, cache, x, positions_B, cos, sin)
        return rms_norm(x[:, 0], params["final_norm"], c.norm_eps), cache

    def _decode_scanned(self, params, cache: Cache, x_Bx1xD, positions_B, cos, sin):
        def body(carry, layer_params):
            x, index = carry
            layer = self._layer(layer_params)
            q, k, v = layer.qkv(x, cos, sin)
            context = cached_attention(q[:, 0], k[:, 0], v[:, 0], *cache, index, positions_B)
            return (layer.rest(x, context[:, None]), index + 1), (k[:, 0], v[:, 0])

        (x, _), new_LxBxKxH = jax.lax.scan(body, (x_Bx1xD, jnp.int32(0)), params["layers"])
        rows_B = jnp.arange(positions_B.size)
        written = (old.at[:, rows_B, positions_B].set(new.astype(old.dtype)) for old, new in zip(cache, new_LxBxKxH))
        return x, Cache(*written)

    def _decode_unrolled(self, params, cache: LayerCaches, x_Bx1xD, positions_B, cos, sin):
        x, rows_B = x_Bx1xD, jnp.arange(positions_B.size)
        written = []
        for layer_params, keys, values in zip(unstacked(params)["layers"], *cache):
            layer = self._layer(layer_params)
            q, k, v = layer.qkv(x, cos, sin)
            keys = keys.at[rows_B, :, :, positions_B].set(k[:, 0].astype(keys.dtype))
            values = values.at[rows_B, :, positions_B].set(v[:, 0].astype(values.dtype))
            x = layer.rest(x, slot_attention(q[:, 0], keys, values, positions_B)[:, None])
            written.append((keys, values))
        return x, LayerCaches(*zip(*written))

    def _layers(self, params, tokens_BxT, segment_ids_BxT, positions_BxT, collect: bool):
        B, T = tokens_BxT.shape
        if segment_ids_BxT is None:
            segment_ids_BxT = jnp.ones((B, T), jnp.int32)
        if positions_BxT is None:
            positions_BxT = jnp.broadcast_to(jnp.arange(T, dtype=jnp.int32), (B, T))
        lengths_BxT = rope.sequence_lengths(self.config.rope, positions_BxT, segment_ids_BxT)
        cos, sin = rope.angles(self.config.rope, self.config.head_dim, positions_BxT, lengths_BxT)

        def body(x, layer_params):
            x = partition.constrain(x, ("batch", None, None), self.rules)
            layer = self._layer(_cast_in_the_loop(layer_params, self.dtype))
            q, k, v = layer.qkv(x, cos, sin)
            context = attention(q, k, v, segment_ids_BxT, self.attention, self.rules)
            return layer.rest(x, context), (k, v) if collect else None

        body = rematerialised(body, self.remat)
        x = partition.constrain(self.embed(params, tokens_BxT), ("batch", None, None), self.rules)
        if self.scan:
            return jax.lax.scan(body, x, params["layers"])
        outputs = []
        for layer_params in unstacked(params)["layers"]:
            x, output = body(x, layer_params)
            outputs.append(output)
        return x, jax.tree.map(lambda *a: jnp.stack(a), *outputs)

    def _layer(self, layer_params: dict[str, Any]) -> Layer:
        state = nnx.State({name: nnx.Param(value) for name, value in layer_params.items()})
        return nnx.merge(_layer_graph(self.config), state)


@functools.cache
def _layer_graph(config: ModelConfig) -> nnx.GraphDef:
    """The NNX structure of a block, split from its parameters once for each config."""
    return nnx.split(nnx.eval_shape(lambda: Layer(config, rngs=nnx.Rngs(params=0))))[0]


def _cast_in_the_loop(layer_params: Any, dtype: str) -> Any:
    """Keeps XLA from casting the weights of all layers before the loop over them, which would hold them twice."""

    def barrier(leaf):
        cast = jnp.issubdtype(leaf.dtype, jnp.floating) and leaf.dtype != dtype
        return jax.lax.optimization_barrier(leaf) if cast else leaf

    return jax.tree.map(barrier, layer_params)


def unstacked(params: Params) -> Params:
    """The parameters with a tuple of layers instead of stacked ones: what an unrolled decoder reads fastest."""
    layers = params["layers"]
    if isinstance(layers, tuple):
        return params
    count = jax.tree.leaves(layers)[0].shape[0]
    return {**params, "layers": tuple(jax.tree.map(lambda a, i=i: a[i], layers) for i in range(count))}


def unstacked_on_host(params: Params) -> Params:
    """`unstacked` for parameters in a CPU's memory, without copying them: a layer is a view of the stacked array.

    JAX's CPU backend takes over host memory that starts at a multiple of 64 bytes, as a layer of any larger array does.
    """
    layers = params["layers"]
    if isinstance(layers, tuple):
        return params
    host = jax.tree.map(np.asarray, layers)
    count = jax.tree.leaves(host)[0].shape[0]
    return {**params, "layers": tuple(jax.tree.map(lambda a, i=i: jax.device_put(a[i]), host) for i in range(count))}


def head_logits(hidden: jax.Array, head_DxV: jax.Array) -> jax.Array:
    """hidden_…xD · head_DxV, summed and returned in float32."""
    return jnp.matmul(hidden, head_DxV.astype(hidden.dtype), preferred_element_type=jnp.float32)
