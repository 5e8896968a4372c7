//! BERT base (Devlin et al., 2018) and GPT-2 small (Radford et al., 2019).

use graver::nn::{Past, Storage};
use graver::prelude::*;
use graver::trace::{Attention, Size};

/// Features of a token, heads, and features of a head.
const WIDTH: usize = 768;
const HEADS: usize = 12;
const HEAD: usize = WIDTH / HEADS;
const LAYERS: usize = 12;

/// `[batch, length, width]` as `[batch, heads, length, head]`.
fn heads(x: Tensor) -> Tensor {
    x.reshape((x.dim(0), x.dim(1), HEADS, HEAD)).transpose(1, 2)
}

/// [`heads`] undone.
fn merged(x: Tensor) -> Tensor {
    x.transpose(1, 2).reshape((x.dim(0), x.dim(2), WIDTH))
}

/// A layer that normalises after each part.
#[derive(Module)]
struct BertLayer {
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    ln1: LayerNorm,
    up: Linear,
    down: Linear,
    ln2: LayerNorm,
}

impl BertLayer {
    fn new(init: &mut Init) -> Self {
        Self {
            q: Linear::new(WIDTH, WIDTH).init(init),
            k: Linear::new(WIDTH, WIDTH).init(init),
            v: Linear::new(WIDTH, WIDTH).init(init),
            o: Linear::new(WIDTH, WIDTH).init(init),
            ln1: LayerNorm::new(WIDTH).eps(1e-12).init(init),
            up: Linear::new(WIDTH, 4 * WIDTH).init(init),
            down: Linear::new(4 * WIDTH, WIDTH).init(init),
            ln2: LayerNorm::new(WIDTH).eps(1e-12).init(init),
        }
    }

    fn forward(&self, x: Tensor) -> Tensor {
        let [q, k, v] = [&self.q, &self.k, &self.v].map(|part| heads(part.forward(x)));
        let seen = merged(q.attention(k, v, Attention::new()));
        let x = self.ln1.forward(x + self.o.forward(seen));
        self.ln2.forward(x + self.down.forward(self.up.forward(x).gelu()))
    }
}

/// The encoder, of one segment.
#[derive(Module)]
pub(crate) struct Bert {
    word: Embedding,
    pos: Embedding,
    typ: Embedding,
    ln: LayerNorm,
    layers: Vec<BertLayer>,
}

impl Bert {
    pub(crate) const WORDS: usize = 30522;
    pub(crate) const LONGEST: usize = 512;

    pub(crate) fn new(init: &mut Init) -> Self {
        Self {
            word: Embedding::new(Self::WORDS, WIDTH).init(init),
            pos: Embedding::new(Self::LONGEST, WIDTH).init(init),
            typ: Embedding::new(2, WIDTH).init(init),
            ln: LayerNorm::new(WIDTH).eps(1e-12).init(init),
            layers: (0..LAYERS).map(|_| BertLayer::new(init)).collect(),
        }
    }

    pub(crate) fn forward(&self, tokens: Tensor) -> Tensor {
        let position = self.pos.weight.get().narrow(0, 0, tokens.dim(1));
        let x = self.word.forward(tokens) + position + self.typ.weight.get().select(0, 0);
        self.layers.iter().fold(self.ln.forward(x), |x, layer| layer.forward(x))
    }
}

/// A layer that normalises before each part.
#[derive(Module)]
struct GptLayer {
    ln1: LayerNorm,
    attn: Linear,
    proj: Linear,
    ln2: LayerNorm,
    up: Linear,
    down: Linear,
}

impl GptLayer {
    fn new(init: &mut Init) -> Self {
        Self {
            ln1: LayerNorm::new(WIDTH).init(init),
            attn: Linear::new(WIDTH, 3 * WIDTH).init(init),
            proj: Linear::new(WIDTH, WIDTH).init(init),
            ln2: LayerNorm::new(WIDTH).init(init),
            up: Linear::new(WIDTH, 4 * WIDTH).init(init),
            down: Linear::new(4 * WIDTH, WIDTH).init(init),
        }
    }

    fn stored(self, storage: Storage) -> Self {
        let stored = |linear: Linear| linear.stored(storage);
        let Self { ln1, attn, proj, ln2, up, down } = self;
        Self { ln1, attn: stored(attn), proj: stored(proj), ln2, up: stored(up), down: stored(down) }
    }

    /// Behind what a cache has seen, if there is one.
    fn forward(&self, past: Option<Past<'_>>, x: Tensor) -> Tensor {
        let parts = self.attn.forward(self.ln1.forward(x)).chunk(3, -1);
        let (keys, values) = (heads(parts[1]), heads(parts[2]));
        let (keys, values) = past.map_or((keys, values), |past| past.cache.extend(keys, values, past.length));
        let seen = heads(parts[0]).attention(keys, values, Attention::new().causal());
        let x = x + self.proj.forward(merged(seen));
        x + self.down.forward(self.up.forward(self.ln2.forward(x)).gelu_tanh())
    }
}

/// The decoder, with the embedding's weight for its logits.
#[derive(Module)]
pub(crate) struct Gpt2 {
    wte: Embedding,
    wpe: Embedding,
    h: Vec<GptLayer>,
    lnf: LayerNorm,
}

impl Gpt2 {
    pub(crate) const WORDS: usize = 50257;
    pub(crate) const LONGEST: usize = 1024;

    pub(crate) fn new(init: &mut Init) -> Self {
        Self {
            wte: Embedding::new(Self::WORDS, WIDTH).init(init),
            wpe: Embedding::new(Self::LONGEST, WIDTH).init(init),
            h: (0..LAYERS).map(|_| GptLayer::new(init)).collect(),
            lnf: LayerNorm::new(WIDTH).init(init),
        }
    }

    pub(crate) fn forward(&self, tokens: Tensor) -> Tensor {
        let x = self.wte.forward(tokens) + self.wpe.weight.get().narrow(0, 0, tokens.dim(1));
        let x = self.h.iter().fold(x, |x, layer| layer.forward(None, x));
        self.wte.scores(self.lnf.forward(x))
    }

    /// With all matrices kept in fewer bits.
    pub(crate) fn stored(self, storage: Storage) -> Self {
        let h = self.h.into_iter().map(|layer| layer.stored(storage)).collect();
        Self { wte: self.wte.stored(storage), h, ..self }
    }

    /// A cache for each layer, of one text of so many tokens.
    pub(crate) fn caches(&self, tokens: usize) -> Vec<KvCache> {
        self.h.iter().map(|_| KvCache::new(1, HEADS, tokens, HEAD, DType::F32)).collect()
    }

    /// Scores of the token after `tokens: i64[1, length]`, which stand behind `past` that the caches hold: `[1, words]`.
    pub(crate) fn next(&self, tokens: Tensor, caches: &[KvCache], past: Size) -> Tensor {
        let x = self.wte.forward(tokens) + self.wpe.weight.get().narrow(0, past, tokens.dim(1));
        let x = self.h.iter().zip(caches).fold(x, |x, (layer, cache)| layer.forward(Some(cache.after(past)), x));
        self.wte.scores(self.lnf.forward(x.select(1, -1)))
    }

    /// The loss of every token but the last telling the next.
    pub(crate) fn loss(&self, tokens: Tensor) -> Tensor {
        let (batch, steps) = (tokens.dim(0), tokens.dim(1) - 1);
        let logits = self.forward(tokens.narrow(1, 0, steps));
        let next = tokens.narrow(1, 1, steps);
        logits.reshape((batch * steps, Self::WORDS)).cross_entropy(next.reshape((batch * steps,)))
    }
}
