"""Makes the references of this folder: small random models, and what transformers makes of them.

Needs torch and transformers; the tests need neither. Run it here: `python make.py [case..]`.
A case is a folder of `config.json`, `model.safetensors` and `expected.safetensors`, whose names are `<call>.<array>`.
"""

import json
import pathlib
import shutil
import sys

import numpy
import PIL.Image
import tokenizers
import torch
import transformers
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent
SMALL = dict(vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=24)


def randomised(model, seed):
    """Every parameter and statistic random, so that no bias, norm or table is one that could be missed."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, value in [*model.named_parameters(), *model.named_buffers()]:
            if not value.is_floating_point() or "inv_freq" in name:
                continue
            if "var" in name:
                value.copy_(torch.rand_like(value) + 0.5)
            elif "norm" in name.lower() and name.endswith("weight") or value.dim() == 1 and name.endswith("weight"):
                value.copy_(torch.rand_like(value) + 0.5)
            else:
                value.copy_(torch.randn_like(value) * 0.2)
    return model.eval()


def texts(vocabulary, batch, length, padding, first=3):
    """Tokens, with padding at the ends of all texts but the first."""
    ids = torch.randint(first, vocabulary, (batch, length))
    mask = torch.ones(batch, length, dtype=torch.long)
    for row in range(1, batch):
        mask[row, length - row :] = 0
    ids = torch.where(mask == 1, ids, torch.full_like(ids, padding))
    return ids, mask


def write(case, model, expected, **saving):
    folder = HERE / case
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    model.save_pretrained(folder, **saving)
    (folder / "generation_config.json").unlink(missing_ok=True)
    save_file({name: value.detach().contiguous() for name, value in expected.items()}, folder / "expected.safetensors")
    print(case, sorted((path.name, path.stat().st_size) for path in folder.iterdir()))


CALLS = {"one": (2, 5), "two": (3, 9)}


def encoder(case, model, seed, outputs, types=False, **saving):
    model = randomised(model, seed)
    expected = {}
    for call, (batch, length) in CALLS.items():
        ids, mask = texts(model.config.vocab_size, batch, length, model.config.pad_token_id)
        given = dict(input_ids=ids, attention_mask=mask)
        expected |= {f"{call}.ids": ids, f"{call}.mask": mask}
        if types:
            given["token_type_ids"] = (torch.arange(length) >= length // 2).long().expand(batch, length) * mask
            expected[f"{call}.types"] = given["token_type_ids"]
        result = model(**given)
        expected |= {f"{call}.{name}": getattr(result, name) for name in outputs}
    write(case, model, expected, **saving)


def bert(**more):
    return transformers.BertConfig(**SMALL, max_position_embeddings=12, **more)


def roberta(**more):
    return transformers.RobertaConfig(**SMALL, max_position_embeddings=14, type_vocab_size=1, layer_norm_eps=1e-5, **more)


def distilbert(**more):
    return transformers.DistilBertConfig(
        vocab_size=40, dim=16, n_layers=2, n_heads=4, hidden_dim=24, max_position_embeddings=12, **more
    )


def causal(case, model, seed):
    model = randomised(model, seed)
    expected = {}
    for call, (batch, length) in CALLS.items():
        ids, mask = texts(model.config.vocab_size, batch, length, 0)
        logits = model(input_ids=ids, attention_mask=mask).logits
        expected |= {f"{call}.ids": ids, f"{call}.mask": mask, f"{call}.logits": logits}
    write(case, model, expected)
    continued(case, model)


def generated(model, prompts, padding=0, **more):
    """What `generate` makes of prompts, the shorter ones behind padding: the likeliest tokens and their scores, step by step."""
    length = max(map(len, prompts))
    ids = torch.tensor([[padding] * (length - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (length - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    result = model.generate(
        input_ids=ids, attention_mask=mask, do_sample=False, pad_token_id=padding, output_logits=True,
        return_dict_in_generate=True, **more,
    )
    return {"tokens": result.sequences[:, -len(result.logits):], "scores": torch.stack(result.logits, 1)}


# What the tests say too: prompts of one text and of several, and how many tokens follow.
PROMPTS = {"alone": [[7, 3, 19, 4]], "beside": [[5, 30, 11, 8, 22], [9, 14], [3, 3, 25]]}
MORE = 7


def continued(case, model):
    """Beside a case that is there: how its model goes on, and how it does with a penalty."""
    results = {}
    for call, prompts in PROMPTS.items():
        for kind, more in {"plain": {}, "penalised": dict(repetition_penalty=1.7)}.items():
            found = generated(model, prompts, max_new_tokens=MORE, eos_token_id=None, **more)
            results |= {f"{call}.{kind}.{name}": value for name, value in found.items()}
    save_file({name: value.contiguous() for name, value in results.items()}, HERE / case / "generated.safetensors")
    print(case, {name: value.tolist() for name, value in results.items() if "tokens" in name})


def llama(kind=transformers.LlamaConfig, **more):
    return kind(**SMALL | dict(num_key_value_heads=2, max_position_embeddings=16) | more)


LLAMA3 = dict(
    rope_type="llama3", rope_theta=100.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
    original_max_position_embeddings=16,
)


# Both from 6 positions on, which the texts exceed.
DYNAMIC = dict(rope_type="dynamic", rope_theta=100.0, factor=4.0)

LONGROPE = dict(
    rope_type="longrope", rope_theta=100.0, short_factor=[1.0, 1.3], long_factor=[1.7, 3.0], original_max_position_embeddings=6,
)


YARN = dict(
    rope_type="yarn", rope_theta=100.0, factor=4.0, original_max_position_embeddings=8, beta_fast=2.0, beta_slow=0.25,
)


def images(case, model, seed, side, outputs):
    model = randomised(model, seed)
    expected = {}
    for call, batch in {"one": 1, "two": 3}.items():
        pixels = torch.randn(batch, 3, side, side)
        result = model(pixel_values=pixels)
        expected |= {f"{call}.images": pixels} | {f"{call}.{name}": getattr(result, name) for name in outputs}
    write(case, model, expected)


def photograph(height, width, channels):
    """Waves, edges and noise."""
    random = numpy.random.default_rng(31)
    y, x, c = numpy.mgrid[0:height, 0:width, 0:channels]
    wave = 127 + 120 * numpy.sin(x / (3 + c) + y / 5) * numpy.cos(y / (4 + c))
    wave[height // 3 : height // 2, width // 4 : width // 2] = [255, 0, 40][:channels]
    return (wave + random.normal(0, 12, wave.shape)).clip(0, 255).astype(numpy.uint8)


# Transformers' processors by the class that makes them, with what their files say.
PROCESSORS = {
    "vit": ("ViT", dict(size=dict(height=9, width=12))),
    "old": ("ViT", dict(size=7, resample=3, image_mean=[0.2, 0.3, 0.4], image_std=[0.3, 0.2, 0.1])),
    "raw": ("ViT", dict(size=dict(height=8, width=8), resample=1, do_rescale=False, do_normalize=False)),
    "boxes": ("ViT", dict(size=dict(height=5, width=60), resample=4, do_normalize=False)),
    "deit": ("DeiT", dict(size=dict(height=14, width=13), crop_size=dict(height=9, width=10))),
    "convnext": ("ConvNext", dict(size=dict(shortest_edge=10), crop_pct=0.8)),
    "clip": ("CLIP", dict(size=dict(shortest_edge=8), crop_size=dict(height=11, width=7))),
    "bit": ("Bit", dict(do_resize=False, crop_size=10)),
}


def pictures(case):
    """Pictures, and what processors make of them: by Pillow, and by torchvision, which rounds otherwise."""
    folder = HERE / case
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    PIL.Image.fromarray(photograph(31, 40, 3)).save(folder / "colours.png")
    PIL.Image.fromarray(photograph(6, 7, 1)[..., 0]).save(folder / "grey.png")
    turned = PIL.Image.Exif()
    turned[0x112] = 6
    PIL.Image.fromarray(photograph(31, 40, 3)).save(folder / "turned.jpg", quality=90, subsampling=0, exif=turned)
    expected, files = {}, {}
    for name, (kind, said) in PROCESSORS.items():
        files[name] = dict(image_processor_type=f"{kind}ImageProcessor", **said)
        backends = {"pillow": "Pil"} if name == "boxes" else {"pillow": "Pil", "torchvision": ""}
        for backend, suffix in backends.items():
            processor = getattr(transformers, f"{kind}ImageProcessor{suffix}")(**said)
            for picture in ["colours.png", "grey.png", "turned.jpg"]:
                opened = transformers.image_utils.load_image(str(folder / picture))
                pixels = processor(opened, return_tensors="pt")["pixel_values"]
                expected[f"{name}.{picture}.{backend}"] = pixels.float().contiguous()
    (folder / "processors.json").write_text(json.dumps(files, indent=1))
    save_file(expected, folder / "expected.safetensors")
    print(case, {name: list(value.shape) for name, value in expected.items()})


def pictured(case, kind, **said):
    """Beside a case that is there: its processor's file, and the classes of pictures."""
    folder = HERE / case
    processor = getattr(transformers, f"{kind}ImageProcessorPil")(**said)
    processor.save_pretrained(folder)
    model = transformers.AutoModelForImageClassification.from_pretrained(folder)
    found = transformers.pipeline("image-classification", model=model, image_processor=processor)
    names = ["colours.png", "grey.png"]
    classes = {name: {each["label"]: each["score"] for each in found(str(HERE / "pictures" / name))} for name in names}
    (folder / "classes.json").write_text(json.dumps(classes, indent=1))
    print(case, classes)


def vit(**more):
    sizes = {name: size for name, size in SMALL.items() if name != "vocab_size"}
    return transformers.ViTConfig(**sizes, image_size=8, patch_size=4, **more)


def resnet(**more):
    return transformers.ResNetConfig(embedding_size=6, hidden_sizes=[8, 12], depths=[1, 2], **more)


def convnext(**more):
    return transformers.ConvNextConfig(num_stages=2, hidden_sizes=[6, 10], depths=[1, 2], layer_scale_init_value=0.5, **more)


def t5(case, seed, **more):
    config = transformers.T5Config(
        vocab_size=40, d_model=16, d_kv=6, d_ff=24, num_layers=2, num_decoder_layers=1, num_heads=3,
        relative_attention_num_buckets=8, relative_attention_max_distance=7, decoder_start_token_id=0, **more,
    )
    model = randomised(transformers.T5ForConditionalGeneration(config), seed)
    expected = {}
    for call, (batch, length) in CALLS.items():
        ids, mask = texts(40, batch, length, 0)
        decoded = torch.randint(3, 40, (batch, length + 2))
        logits = model(input_ids=ids, attention_mask=mask, decoder_input_ids=decoded).logits
        expected |= {f"{call}.ids": ids, f"{call}.mask": mask, f"{call}.decoded": decoded, f"{call}.logits": logits}
    write(case, model, expected)
    continued(case, model)


# What the tests say too.
TEXTS = ["A graver cuts lines into copper.", "Ink fills them", "the press, the paper and the ink make the print: one by one, again and again"]


def trained(model, trainer, pre_tokenizer, start, end):
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = tokenizers.normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.train_from_iterator(TEXTS, trainer)
    ids = [(token, tokenizer.token_to_id(token)) for token in (start, end)]
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{start} $A {end}", pair=f"{start} $A {end} $B:1 {end}:1", special_tokens=ids
    )
    return tokenizer


def texts_in(tokenizer, padding, max_length):
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=padding)
    return fast(TEXTS, padding=True, truncation=True, max_length=max_length, return_tensors="pt")


def sentence(case, modes, seed, dense=()):
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    trainer = tokenizers.trainers.WordPieceTrainer(vocab_size=80, special_tokens=special, show_progress=False)
    model = tokenizers.models.WordPiece(unk_token="[UNK]")
    kept = HERE / case / "tokenizer.json"
    # The trainer numbers equally frequent pieces by chance: what is there stays as it is.
    tokenizer = (
        tokenizers.Tokenizer.from_file(str(kept)) if kept.exists()
        else trained(model, trainer, tokenizers.pre_tokenizers.BertPreTokenizer(), "[CLS]", "[SEP]")
    )
    config = transformers.BertConfig(**SMALL | dict(vocab_size=tokenizer.get_vocab_size()), max_position_embeddings=16)
    model = randomised(transformers.BertModel(config), seed)
    given = texts_in(tokenizer, "[PAD]", 10)
    hidden = model(input_ids=given["input_ids"], attention_mask=given["attention_mask"]).last_hidden_state
    keep = given["attention_mask"].unsqueeze(-1)
    weight = keep * torch.arange(1, keep.shape[1] + 1).view(1, -1, 1)
    pooled = {
        "cls_token": hidden[:, 0],
        "mean_tokens": (hidden * keep).sum(1) / keep.sum(1),
        "max_tokens": hidden.masked_fill(keep == 0, -1e9).amax(1),
        "weightedmean_tokens": (hidden * weight).sum(1) / weight.sum(1),
        "lasttoken": hidden[torch.arange(len(hidden)), keep.sum((1, 2)) - 1],
    }
    rows = torch.cat([pooled[mode] for mode in modes], 1)
    layers = [torch.nn.Linear(sizes[0], sizes[1], bias=bias) for sizes, bias, _ in dense]
    for layer, (_, _, activation) in zip(layers, dense):
        rows = getattr(torch.nn, activation)()(layer(rows))
    rows = torch.nn.functional.normalize(rows, dim=1)
    write(case, model, {"one.embeddings": rows})
    tokenizer.save(str(HERE / case / "tokenizer.json"))
    kind = "sentence_transformers.models."
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    for place, (layer, (sizes, bias, activation)) in enumerate(zip(layers, dense), 2):
        modules.append((f"{place}_Dense", "Dense"))
        folder = HERE / case / f"{place}_Dense"
        folder.mkdir()
        save_file({f"linear.{name}": value.detach() for name, value in layer.named_parameters()}, folder / "model.safetensors")
        activation = f"torch.nn.modules.activation.{activation}"
        config = dict(in_features=sizes[0], out_features=sizes[1], bias=bias, activation_function=activation)
        (folder / "config.json").write_text(json.dumps(config))
    modules.append((f"{len(modules)}_Normalize", "Normalize"))
    modules = [dict(idx=i, name=str(i), path=path, type=kind + name) for i, (path, name) in enumerate(modules)]
    (HERE / case / "modules.json").write_text(json.dumps(modules, indent=2))
    (HERE / case / "sentence_bert_config.json").write_text(json.dumps(dict(max_seq_length=10, do_lower_case=False)))
    (HERE / case / "1_Pooling").mkdir()
    pooling = dict(word_embedding_dimension=16) | {f"pooling_mode_{mode}": True for mode in modes}
    (HERE / case / "1_Pooling" / "config.json").write_text(json.dumps(pooling, indent=2))


def classify(case):
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer = trained(tokenizers.models.BPE(), trainer, tokenizers.pre_tokenizers.ByteLevel(), "<s>", "</s>")
    small = SMALL | dict(vocab_size=tokenizer.get_vocab_size(), hidden_size=8)
    config = transformers.RobertaConfig(**small, max_position_embeddings=50, type_vocab_size=1, pad_token_id=1, **LABELS)
    model = randomised(transformers.RobertaForSequenceClassification(config), 25)
    given = texts_in(tokenizer, "<pad>", 48)
    logits = model(input_ids=given["input_ids"], attention_mask=given["attention_mask"]).logits
    write(case, model, {"one.probabilities": logits.softmax(-1)})
    tokenizer.save(str(HERE / case / "tokenizer.json"))


def generate(case):
    """A GPT-2 with its tokeniser and its options, and the texts that follow some prompts."""
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=290, special_tokens=["<|end|>"], show_progress=False,
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.train_from_iterator(TEXTS, trainer)
    size = dict(vocab_size=tokenizer.get_vocab_size(), n_positions=48, n_embd=16, n_layer=1, n_head=2)
    model = randomised(transformers.GPT2LMHeadModel(transformers.GPT2Config(**size, bos_token_id=0, eos_token_id=0)), 27)
    with torch.no_grad():
        # Wider than usual: other tokens at every place, not one again and again.
        model.transformer.wpe.weight.mul_(6)
    write(case, model, {})
    tokenizer.save(str(HERE / case / "tokenizer.json"))
    texts = []
    for prompt in TEXTS[:2]:
        tokens = generated(model, [tokenizer.encode(prompt).ids], max_new_tokens=24, eos_token_id=0)["tokens"][0].tolist()
        texts.append(dict(prompt=prompt, tokens=tokens, text=tokenizer.decode(tokens)))
    # A token that comes along the way ends the text.
    end = texts[0]["tokens"][9]
    options = dict(max_new_tokens=24, eos_token_id=[0, end], do_sample=False, temperature=0.9, top_k=None, top_p=0.95)
    (HERE / case / "generation_config.json").write_text(json.dumps(options, indent=2))
    (HERE / case / "generated.json").write_text(json.dumps(dict(end=end, texts=texts), indent=2))
    (HERE / case / "expected.safetensors").unlink()
    print(case, texts, end)


# Templates of conversations that have between them what templates use, written as people write them.
TEMPLATES = {
    "marked": """{{ bos_token }}{% for message in messages %}
    {{- '<|' + message['role'] + '|>' + message['content'] | trim + eos_token }}
{% endfor %}
{% if add_generation_prompt %}
    {{- '<|assistant|>' }}
{% endif %}
""",
    "lines": """{% for message in messages %}
<|{{ message.role }}|>
{{ message.content }}
{% if loop.last and add_generation_prompt %}
<|assistant|>
{% endif %}
{% endfor %}""",
    "strict": """{%- if messages[0]['role'] == 'system' -%}
    {%- set system = messages[0]['content'].strip() + '\n\n' -%}
    {%- set rest = messages[1:] -%}
{%- else -%}
    {%- set system = '' -%}
    {%- set rest = messages -%}
{%- endif -%}
{{- bos_token -}}
{%- for message in rest -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{- raise_exception('roles must alternate: user, assistant, user, ..') -}}
    {%- endif -%}
    {%- if message['role'] == 'user' -%}
        {{- '[ASK] ' + (system if loop.first else '') + message['content'] + ' [/ASK]' -}}
    {%- else -%}
        {{- ' ' + message['content'] + eos_token -}}
    {%- endif -%}
{%- endfor -%}""",
    "thinking": """{%- set seen = namespace(last=-1, count=0) %}
{%- for message in messages[::-1] %}
    {%- if message.role == 'user' and seen.last < 0 %}{% set seen.last = messages|length - 1 - loop.index0 %}{% endif %}
{%- endfor %}
{%- macro part(item) %}<{{ item.type | upper }}:{{ item.text if item.type == 'text' else item | tojson }}>{% endmacro %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set text = message.content %}
    {%- elif message.content is none %}
        {%- set text = '' %}
    {%- else %}
        {%- set text %}{% for item in message.content %}{{ part(item) }}{% endfor %}{% endset %}
    {%- endif %}
    {%- if '</think>' in text and loop.index0 < seen.last %}
        {%- set text = text.split('</think>')[-1].lstrip('\n') %}
    {%- endif %}
    {%- set seen.count = seen.count + text.split() | length %}
    {{- loop.index ~ ' ' ~ message.role.title() ~ ': ' ~ text.rstrip() }}
    {%- if message.tool_calls is defined and message.tool_calls %}
        {%- for call in message.tool_calls %}
            {{- '\n' + call.name + '(' + call.arguments | tojson(indent=2) + ')' }}
            {%- if not loop.last %}{{ ';' }}{% else %}{% break %}{% endif %}
        {%- endfor %}
    {%- endif %}
    {{- '\n' if not loop.last else '' }}
{%- endfor %}
{%- if add_generation_prompt and not messages[-1].content.startswith('#') %}
    {{- '\n' ~ seen.count ~ ' words; ' ~ ['a', 'b'] | join('/') ~ (tools is none) ~ ':' }}
{%- endif %}
""",
}

CONVERSATIONS = {
    "short": [dict(role="user", content="  Ink fills them ")],
    "long": [
        dict(role="system", content="A graver cuts lines.\n"), dict(role="user", content="Ink <b>fills</b> 'them' & \"more\""),
        dict(role="assistant", content="<think>what?\nwell</think>\n\nthe press"), dict(role="user", content="again\n"),
    ],
    "wrong": [dict(role="user", content="#one"), dict(role="user", content="#two")],
    "parts": [
        dict(role="user", content=[dict(type="text", text="see"), dict(type="image", url="<ü>'&.png")]),
        dict(role="assistant", content=None, tool_calls=[dict(name="press", arguments=dict(copies=[1, 2.5, True], paper="ü<"))]),
        dict(role="user", content="#thanks"),
    ],
}


def chat(case):
    """A LLaMA whose tokeniser has a template, what it answers, and what templates make of conversations."""
    special = ["<s>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=290, special_tokens=special, show_progress=False,
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.train_from_iterator(TEXTS, trainer)
    # A plain text gets one; a conversation has its own.
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    small = SMALL | dict(vocab_size=tokenizer.get_vocab_size(), num_hidden_layers=1)
    config = transformers.LlamaConfig(**small, max_position_embeddings=160, bos_token_id=0, eos_token_id=1)
    model = randomised(transformers.LlamaForCausalLM(config), 32)
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(4)
    write(case, model, {})
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="<|end|>")
    fast.chat_template = TEMPLATES["marked"]
    fast.save_pretrained(HERE / case)
    said, answers = CONVERSATIONS["long"][:2], []
    for more in CONVERSATIONS["long"][3:] + [dict(role="user", content="and again")] + [None]:
        ids = fast.apply_chat_template(said, add_generation_prompt=True, tokenize=True, return_dict=False)
        tokens = generated(model, [ids], max_new_tokens=12, eos_token_id=[1, 200])["tokens"][0].tolist()
        answers.append(dict(prompt=ids, tokens=tokens, text=fast.decode(tokens, skip_special_tokens=True)))
        said = said + [dict(role="assistant", content=answers[-1]["text"]), more]
    texts = {}
    for name, template in TEMPLATES.items():
        for which, conversation in CONVERSATIONS.items():
            if which == "parts" and name in ("marked", "lines"):
                # They take texts alone, and would write lists as Python does.
                continue
            for kind, prompt in {"prompt": True, "transcript": False}.items():
                try:
                    text = fast.apply_chat_template(conversation, chat_template=template, add_generation_prompt=prompt, tokenize=False)
                except Exception as error:
                    text = dict(error=str(error))
                texts[f"{name}.{which}.{kind}"] = text
    (HERE / case / "generation_config.json").write_text(json.dumps(dict(max_new_tokens=12, eos_token_id=[1, 200])))
    written = dict(templates=TEMPLATES, conversations=CONVERSATIONS, texts=texts, answers=answers)
    (HERE / case / "chat.json").write_text(json.dumps(written, indent=1, ensure_ascii=False))
    (HERE / case / "expected.safetensors").unlink()
    print(case, json.dumps(texts, indent=1), answers)


def picking(case):
    """The probabilities by which tokens are drawn, as the options say."""
    shutil.rmtree(HERE / case, ignore_errors=True)
    (HERE / case).mkdir()
    torch.manual_seed(28)
    scores, tokens = torch.randn(3, 40) * 3, torch.randint(0, 40, (3, 6))
    found = {"scores": scores, "tokens": tokens}
    for name, options in PICKING.items():
        config = transformers.GenerationConfig(do_sample=True, **dict(top_k=0) | options)
        model = transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=40, n_embd=8, n_layer=1, n_head=1))
        processors = model._get_logits_processor(config, input_ids_seq_length=6, device="cpu")
        found[name] = processors(tokens, scores.clone()).softmax(-1)
    save_file({name: value.contiguous() for name, value in found.items()}, HERE / case / "expected.safetensors")
    print(case, {name: (value > 0).sum(1).tolist() for name, value in found.items()})


# What the tests say too.
PICKING = {
    "plain": {}, "cold": dict(temperature=0.5), "hot": dict(temperature=2.5), "few": dict(top_k=5), "share": dict(top_p=0.8),
    "penalised": dict(repetition_penalty=1.4), "all": dict(temperature=1.6, top_k=12, top_p=0.7, repetition_penalty=1.3),
}


LABELS = dict(id2label={0: "bad", 1: "fair", 2: "good"}, label2id={"bad": 0, "fair": 1, "good": 2})
BODY = ["last_hidden_state", "pooler_output"]
CASES = {
    "bert": lambda c: encoder(c, transformers.BertModel(bert()), 1, BODY, types=True),
    "bert_mlm": lambda c: encoder(c, transformers.BertForMaskedLM(bert(hidden_act="gelu_new")), 2, ["logits"], types=True),
    "bert_untied": lambda c: encoder(
        c, transformers.BertForMaskedLM(bert(tie_word_embeddings=False)), 26, ["logits"], types=True
    ),
    "bert_class": lambda c: encoder(
        c, transformers.BertForSequenceClassification(bert(**LABELS)), 3, ["logits"], types=True, max_shard_size="4KB"
    ),
    "bert_token": lambda c: encoder(c, transformers.BertForTokenClassification(bert(**LABELS)), 4, ["logits"], types=True),
    "bert_qa": lambda c: encoder(
        c, transformers.BertForQuestionAnswering(bert()), 5, ["start_logits", "end_logits"], types=True
    ),
    "roberta": lambda c: encoder(c, transformers.RobertaModel(roberta()), 6, BODY),
    "roberta_mlm": lambda c: encoder(c, transformers.RobertaForMaskedLM(roberta()), 7, ["logits"]),
    "roberta_class": lambda c: encoder(c, transformers.RobertaForSequenceClassification(roberta(**LABELS)), 8, ["logits"]),
    "roberta_token": lambda c: encoder(c, transformers.RobertaForTokenClassification(roberta(**LABELS)), 35, ["logits"]),
    "roberta_qa": lambda c: encoder(
        c, transformers.RobertaForQuestionAnswering(roberta()), 36, ["start_logits", "end_logits"]
    ),
    "distilbert": lambda c: encoder(c, transformers.DistilBertModel(distilbert()), 9, ["last_hidden_state"]),
    "distilbert_mlm": lambda c: encoder(c, transformers.DistilBertForMaskedLM(distilbert()), 10, ["logits"]),
    "distilbert_class": lambda c: encoder(
        c, transformers.DistilBertForSequenceClassification(distilbert(**LABELS)), 11, ["logits"]
    ),
    "distilbert_token": lambda c: encoder(
        c, transformers.DistilBertForTokenClassification(distilbert(**LABELS)), 37, ["logits"]
    ),
    "distilbert_qa": lambda c: encoder(
        c, transformers.DistilBertForQuestionAnswering(distilbert()), 12, ["start_logits", "end_logits"]
    ),
    "gpt2": lambda c: causal(
        c, transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=40, n_positions=12, n_embd=16, n_layer=2, n_head=4)), 13
    ),
    "llama": lambda c: causal(c, transformers.LlamaForCausalLM(llama()), 14),
    "llama3": lambda c: causal(
        c, transformers.LlamaForCausalLM(llama(rope_parameters=LLAMA3, tie_word_embeddings=True, attention_bias=True)), 15
    ),
    "yarn": lambda c: causal(c, transformers.LlamaForCausalLM(llama(rope_parameters=YARN)), 29),
    "dynamic": lambda c: causal(
        c, transformers.LlamaForCausalLM(llama(rope_parameters=DYNAMIC, max_position_embeddings=6)), 33
    ),
    "longrope": lambda c: causal(c, transformers.LlamaForCausalLM(llama(rope_parameters=LONGROPE)), 34),
    "mistral": lambda c: causal(
        c, transformers.MistralForCausalLM(llama(transformers.MistralConfig, sliding_window=4, head_dim=6)), 16
    ),
    "qwen2": lambda c: causal(c, transformers.Qwen2ForCausalLM(llama(transformers.Qwen2Config)), 17),
    "vit": lambda c: images(c, transformers.ViTModel(vit()), 18, 8, BODY),
    "vit_class": lambda c: images(c, transformers.ViTForImageClassification(vit(**LABELS)), 19, 8, ["logits"]),
    "resnet": lambda c: images(
        c, transformers.ResNetForImageClassification(resnet(layer_type="bottleneck", **LABELS)), 20, 32, ["logits"]
    ),
    "resnet_basic": lambda c: images(
        c, transformers.ResNetForImageClassification(resnet(layer_type="basic", downsample_in_first_stage=True, hidden_act="gelu")), 21, 32, ["logits"]
    ),
    "convnext": lambda c: images(c, transformers.ConvNextModel(convnext(patch_size=2)), 31, 16, BODY),
    "convnext_class": lambda c: images(
        c, transformers.ConvNextForImageClassification(convnext(hidden_act="relu", **LABELS)), 32, 16, ["logits"]
    ),
    "pictures": pictures,
    "vit_class+": lambda c: pictured("vit_class", "ViT", size=dict(height=8, width=8)),
    "resnet+": lambda c: pictured("resnet", "ConvNext", size=dict(shortest_edge=32)),
    "sentence": lambda c: sentence(c, ["cls_token", "mean_tokens"], 24),
    "sentence_dense": lambda c: sentence(
        c, ["max_tokens", "weightedmean_tokens", "lasttoken"], 30, [((48, 12), True, "Tanh"), ((12, 8), False, "ReLU")]
    ),
    "classify": classify,
    "generate": generate,
    "chat": chat,
    "picking": picking,
    "t5": lambda c: t5(c, 22),
    "t5_gated": lambda c: t5(c, 23, feed_forward_proj="gated-gelu", tie_word_embeddings=False),
}

if __name__ == "__main__":
    for name in sys.argv[1:] or CASES:
        CASES[name](name)
