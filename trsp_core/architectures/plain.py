"""Records of decoders whose layers hold attention and one MLP, each where it differs from Llama."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from trsp_core.architectures import positions as at
from trsp_core.architectures.common import LLAMA, NORMED, NORMED_TIED, QWEN2, TIED, types
from trsp_core.architectures.patterns import Counted, EdgeLayer, Listed, RootScaled
from trsp_core.architectures.record import Architecture, Forbidden

_GPT = Architecture(
    "gpt2",
    attention_update="attn",
    layers="transformer.h",
    embedding="transformer.wte",
    final_norm="transformer.ln_f",
    mlp_output="mlp.c_proj",
    layer_count="n_layer",
    width="n_embd",
    positions="n_positions",
    ties_by_default=True,
    not_weights=(r"\.attn\.(masked_)?bias$", r"\.attn\.embed_positions$"),
)
_GPT2 = replace(
    _GPT,
    mlp_output_transposed=True,
    forbidden=(
        Forbidden(
            "scale_attn_by_inverse_layer_idx",
            "each layer's attention is scaled by its position, so a layer that moves up would compute something "
            "else. Such a model cannot be pruned by layers",
        ),
    ),
)
_FALCON = Architecture(
    "falcon",
    attention_update="self_attention",
    layers="transformer.h",
    embedding="transformer.word_embeddings",
    final_norm="transformer.ln_f",
    mlp_output="mlp.dense_4h_to_h",
    outputs=2,
    ties_by_default=True,
)
_NEOX = Architecture(
    "gpt_neox",
    attention_update="attention",
    layers="gpt_neox.layers",
    embedding="gpt_neox.embed_in",
    final_norm="gpt_neox.final_layer_norm",
    stored_as=(("lm_head", "embed_out"),),
    mlp_output="mlp.dense_4h_to_h",
    not_weights=(r"rotary_emb\.inv_freq$", r"\.attention\.(masked_)?bias$"),
)

PLAIN: Mapping[str, Architecture] = {
    # Llama's layout, all layers alike.
    "llama": LLAMA,
    "apertus": LLAMA,
    "arcee": LLAMA,
    "bitnet": LLAMA,
    "cohere": TIED,
    "doge": replace(LLAMA, attention_update=None),
    "ernie4_5": TIED,
    "exaone4": replace(NORMED, patterns=(types(at.exaone_windows),)),
    "gemma": TIED,
    "glm": LLAMA,
    "glm4": NORMED,
    "granite": replace(LLAMA, residual_factor="residual_multiplier"),
    "helium": LLAMA,
    "hunyuan_v1_dense": LLAMA,
    "hyperclovax": NORMED,
    "internlm3": LLAMA,
    "iquestcoder": LLAMA,
    "jais2": LLAMA,
    "minicpm3": replace(NORMED_TIED, patterns=(RootScaled("scale_depth", 1.0),)),
    "ministral3": LLAMA,
    "mistral": LLAMA,
    "nanochat": replace(LLAMA, mlp_output="mlp.fc2"),
    "nemotron": LLAMA,
    "olmo": LLAMA,
    "olmo2": NORMED,
    "persimmon": replace(LLAMA, final_norm="model.final_layernorm", mlp_output="mlp.dense_4h_to_h"),
    "phi": replace(LLAMA, final_norm="model.final_layernorm", mlp_output="mlp.fc2"),
    "phi3": LLAMA,
    "seed_oss": LLAMA,
    "stablelm": LLAMA,
    "starcoder2": replace(TIED, mlp_output="mlp.c_proj"),
    "youtu": TIED,
    # Sliding windows or rotary choices by layer.
    "cohere2": replace(TIED, patterns=(types(at.every(4, "sliding_window_pattern")),)),
    "cohere_compass_text": replace(TIED, patterns=(types(at.same(at.FULL)),)),
    "cwm": replace(LLAMA, patterns=(types(at.every(4, shift=0)),)),
    "gemma2": replace(NORMED_TIED, attention="eager", patterns=(types(at.every(2)),)),
    "gemma3_text": replace(NORMED_TIED, patterns=(types(at.every(6, "sliding_window_pattern")),)),
    "granite_swa": replace(
        TIED,
        attention="eager",
        residual_factor="residual_multiplier",
        rebuilt="model.rotary_embs",
        patterns=(types(at.every(4, shift=0)), Listed("layer_rope_theta")),
    ),
    "ministral": replace(LLAMA, patterns=(types(at.windows_if_set),)),
    "modernbert-decoder": replace(
        TIED,
        attention_update="attn",
        embedding="model.embeddings.tok_embeddings",
        final_norm="model.final_norm",
        head="decoder",
        before_head="lm_head",
        mlp_output="mlp.Wo",
        patterns=(
            types(at.every(3, "global_attn_every_n_layers", shift=0)),
            EdgeLayer(last=False, why="it alone has no norm before its attention"),
        ),
    ),
    "olmo3": replace(NORMED, patterns=(types(at.every(4)),)),
    "qwen2": QWEN2,
    "qwen3": QWEN2,
    "smollm3": replace(TIED, patterns=(Listed("no_rope_layers", at.rope_choices), types(at.smollm3_types))),
    "vaultgemma": replace(TIED, attention="eager", patterns=(types(at.every(2)),)),
    # GPT's layout.
    "gpt2": _GPT2,
    "gpt-sw3": _GPT2,
    "gpt_bigcode": _GPT,
    "codegen": replace(
        _GPT,
        attention="eager",
        mlp_output="mlp.fc_out",
        outputs=2,
        ties_by_default=False,
        not_weights=(r"\.attn\.(causal_mask|embed_positions|bias|masked_bias)$",),
    ),
    "ctrl": replace(
        _GPT,
        attention_update="multi_head_attention",
        embedding="transformer.w",
        final_norm="transformer.layernorm",
        mlp_output="ffn.2",
    ),
    "gptj": replace(_GPT, attention="eager", mlp_output="mlp.fc_out", outputs=2, ties_by_default=False),
    "gpt_neo": replace(
        _GPT,
        attention="eager",
        layer_count="num_layers",
        width="hidden_size",
        positions="max_position_embeddings",
        outputs=2,
        patterns=(Counted(),),
        not_weights=(r"\.attn\.attention\.(masked_)?bias$",),
    ),
    "openai-gpt": replace(
        _GPT2,
        attention="eager",
        embedding="transformer.tokens_embed",
        final_norm=None,
        mlp_output_joins=False,
        outputs=1,
        forbidden=(),
        not_weights=(r"\.attn\.bias$",),
    ),
    # Layouts of their own.
    "biogpt": replace(
        TIED,
        layers="biogpt.layers",
        embedding="biogpt.embed_tokens",
        final_norm="biogpt.layer_norm",
        head="output_projection",
        mlp_output="fc2",
    ),
    "bloom": replace(
        _FALCON, attention_update=None, attention="eager", layer_count="n_layer", positions="seq_length"
    ),
    "falcon": _FALCON,
    "gpt_neox": _NEOX,
    "gpt_neox_japanese": replace(
        _NEOX,
        attention_update=None,
        attention="eager",
        layers="gpt_neox_japanese.layers",
        embedding="gpt_neox_japanese.embed_in",
        final_norm="gpt_neox_japanese.final_layer_norm",
        head="embed_out",
        stored_as=(),
        outputs=2,
        ties_by_default=True,
        patterns=(EdgeLayer(last=True, why="it alone has a bias on its attention's output"),),
    ),
    "mpt": replace(
        TIED,
        attention_update="attn",
        attention="eager",
        layers="transformer.blocks",
        embedding="transformer.wte",
        final_norm="transformer.norm_f",
        mlp_output="ffn.down_proj",
        outputs=2,
        layer_count="n_layers",
        width="d_model",
        positions="max_seq_len",
    ),
    "opt": replace(
        TIED,
        layers="model.decoder.layers",
        embedding="model.decoder.embed_tokens",
        final_norm="model.decoder.final_layer_norm",
        mlp_output="fc2",
        norm_after="do_layer_norm_before",
        embedding_width="word_embed_proj_dim",
    ),
    "xglm": replace(
        TIED,
        attention="eager",
        final_norm="model.layer_norm",
        mlp_output="fc2",
        layer_count="num_layers",
        width="d_model",
    ),
}
