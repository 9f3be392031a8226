"""One transformer block as an NNX module; its parameters are stacked over layers by the decoder."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from lrm_align.models import rope
from lrm_align.models.config import ModelConfig
from lrm_align.models.projection import INPUTS, Kernel, project


def rms_norm(x: jax.Array, weight: jax.Array, eps: float) -> jax.Array:
    """x / √(mean(x²) + eps) · weight over the last axis, the mean in float32."""
    x32 = x.astype(jnp.float32)
    x32 = x32 * jax.lax.rsqrt(jnp.mean(x32 * x32, axis=-1, keepdims=True) + eps)
    return x32.astype(x.dtype) * weight.astype(x.dtype)


class Layer(nnx.Module):
    """Pre-norm attention and gated feed-forward. Any kernel may be replaced by a `LoraKernel`."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        c = config
        # GPT-2's rule: residual outputs are scaled down by the number of residual additions.
        inner, outer = nnx.initializers.normal(0.02), nnx.initializers.normal(0.02 / (2 * c.num_layers) ** 0.5)
        self.config = config
        self.attn_norm = nnx.Param(jnp.ones(c.width))
        self.q = nnx.Param(inner(rngs.params(), (c.width, c.num_heads, c.head_dim)))
        self.k = nnx.Param(inner(rngs.params(), (c.width, c.num_kv_heads, c.head_dim)))
        self.v = nnx.Param(inner(rngs.params(), (c.width, c.num_kv_heads, c.head_dim)))
        self.o = nnx.Param(outer(rngs.params(), (c.num_heads, c.head_dim, c.width)))
        self.mlp_norm = nnx.Param(jnp.ones(c.width))
        self.gate = nnx.Param(inner(rngs.params(), (c.width, c.ffn)))
        self.up = nnx.Param(inner(rngs.params(), (c.width, c.ffn)))
        self.down = nnx.Param(outer(rngs.params(), (c.ffn, c.width)))
        if c.qkv_bias:
            self.q_bias = nnx.Param(jnp.zeros((c.num_heads, c.head_dim)))
            self.k_bias = nnx.Param(jnp.zeros((c.num_kv_heads, c.head_dim)))
            self.v_bias = nnx.Param(jnp.zeros((c.num_kv_heads, c.head_dim)))
        if c.output_bias:
            self.o_bias = nnx.Param(jnp.zeros(c.width))
        if c.qk_norm:
            self.q_norm = nnx.Param(jnp.ones(c.head_dim))
            self.k_norm = nnx.Param(jnp.ones(c.head_dim))
        if c.mlp_bias:
            self.gate_bias = nnx.Param(jnp.zeros(c.ffn))
            self.up_bias = nnx.Param(jnp.zeros(c.ffn))
            self.down_bias = nnx.Param(jnp.zeros(c.width))

    def qkv(self, x: jax.Array, cos: jax.Array, sin: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Normed and rotated queries …xNxH, keys …xKxH and values …xKxH of residual stream x_…xD."""
        c = self.config
        h = rms_norm(x, self.attn_norm.get_value(), c.norm_eps)
        q, k, v = (self._project(h, name) for name in ("q", "k", "v"))
        if c.qk_norm:
            q = rms_norm(q, self.q_norm.get_value(), c.norm_eps)
            k = rms_norm(k, self.k_norm.get_value(), c.norm_eps)
        q, k = rope.rotate(q, cos, sin), rope.rotate(k, cos, sin)
        return checkpoint_name(q, "query"), checkpoint_name(k, "key"), checkpoint_name(v, "value")

    def rest(self, x: jax.Array, context: jax.Array) -> jax.Array:
        """Adds the attention's output, projected from context_…xNxH, and the feed-forward layer's."""
        x = x + checkpoint_name(self._project(context, "o"), "out_proj")
        h = rms_norm(x, self.mlp_norm.get_value(), self.config.norm_eps)
        gate = checkpoint_name(self._project(h, "gate"), "mlp_gate")
        up = checkpoint_name(self._project(h, "up"), "mlp_up")
        return x + checkpoint_name(self._project(jax.nn.silu(gate) * up, "down"), "mlp_down")

    def _project(self, x: jax.Array, name: str) -> jax.Array:
        c = self.config
        biased = {"q": c.qkv_bias, "k": c.qkv_bias, "v": c.qkv_bias, "o": c.output_bias}.get(name, c.mlp_bias)
        kernel: Kernel = getattr(self, name).get_value()
        y = project(x, kernel, INPUTS[name])
        return y + getattr(self, f"{name}_bias").get_value().astype(y.dtype) if biased else y
