"""The release's architecture in PyTorch, for the parity fixtures; no test imports it.

ViT and T5 are those of transformers. The rest is written from the numbers of the
published architecture: widths, kernels, order of norms and activations. Attributes are
named as the layers of a released state dict are.
"""

import torch
from torch import nn
from transformers import T5Config, T5ForConditionalGeneration, ViTConfig, ViTModel

HEATMAPS = ("implausibility", "misalignment")
SCORES = ("plausibility", "alignment", "aesthetics", "overall")


class ChannelNorm(nn.Module):
    """Root mean square over channels, scale only."""

    def __init__(self, channels):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x):
        square = (x * x).mean(dim=1, keepdim=True)
        return x * torch.rsqrt(square + 1e-8) * self.scale


def _conv(inputs, outputs):
    return nn.Conv2d(inputs, outputs, 3, padding=1)


class HeatmapHead(nn.Module):
    def __init__(self, width):
        super().__init__()
        half, quarter = width // 2, width // 4
        self.conv_layers = nn.Sequential(
            *(_conv(width, width), nn.ReLU(), ChannelNorm(width)),
            *(_conv(width, half), nn.ReLU(), ChannelNorm(half)),
        )
        self.deconv_layers, self.conv_layers2 = nn.ModuleList(), nn.ModuleList()
        inputs = half
        for outputs in (width, half, half, quarter):
            up = nn.ConvTranspose2d(
                inputs, outputs, 3, stride=2, padding=1, output_padding=1
            )
            self.deconv_layers.append(
                nn.Sequential(up, ChannelNorm(outputs), nn.ReLU())
            )
            self.conv_layers2.append(
                nn.Sequential(
                    *(_conv(outputs, outputs), ChannelNorm(outputs), nn.ReLU()),
                    *(_conv(outputs, outputs), ChannelNorm(outputs)),
                )
            )
            inputs = outputs
        self.last_conv1, self.last_conv2 = _conv(quarter, quarter), _conv(quarter, 1)

    def forward(self, x):
        x = self.conv_layers(x)
        for up, residual in zip(self.deconv_layers, self.conv_layers2, strict=True):
            x = up(x)
            x = torch.relu(x + residual(x))
        x = self.last_conv2(torch.relu(self.last_conv1(x)))
        return torch.sigmoid(x[:, 0])


class ScoreHead(nn.Module):
    def __init__(self, width, grid):
        super().__init__()
        layers, inputs = [], width
        for divisor in (1, 2, 4, 8, 16, 64):
            outputs = width // divisor
            layers += [_conv(inputs, outputs), ChannelNorm(outputs), nn.ReLU()]
            inputs = outputs
        self.conv_layers = nn.Sequential(*layers)
        self.linear_layers = nn.Sequential(
            *(nn.Linear(inputs * grid * grid, 512), nn.ReLU()),
            *(nn.Linear(512, 128), nn.ReLU(), nn.Linear(128, 1), nn.Sigmoid()),
        )

    def forward(self, x):
        return self.linear_layers(self.conv_layers(x).flatten(1))[:, 0]


class Release(nn.Module):
    """Seven heads on one encoding; `forward` gives every stage by name."""

    def __init__(self, vit: ViTConfig, t5: T5Config):
        super().__init__()
        self.vit = ViTModel(vit)
        self.t5 = T5ForConditionalGeneration(t5)
        self.visual_token_projection = nn.Linear(vit.hidden_size, t5.d_model)
        self.grid = vit.image_size // vit.patch_size
        make_heatmap = lambda: HeatmapHead(t5.d_model)
        make_score = lambda: ScoreHead(t5.d_model, self.grid)
        self.heatmap_predictor = nn.ModuleDict({n: make_heatmap() for n in HEATMAPS})
        self.score_predictor = nn.ModuleDict({n: make_score() for n in SCORES})

    def forward(self, images, inputs, said):
        """uint8[B, S, S, 3], int64[B, L], int64[B, T] -> {stage: tensor}."""
        pixels = images.permute(0, 3, 1, 2).float() / 127.5 - 1
        tokens = self.vit(pixels).last_hidden_state
        tokens = self.visual_token_projection(tokens)
        embedded = torch.cat([tokens, self.t5.shared(inputs)], dim=1)
        encoded = self.t5.encoder(inputs_embeds=embedded).last_hidden_state
        count = tokens.shape[1]
        memory = encoded[:, count:]
        places = encoded[:, 1:count].transpose(1, 2)
        feature_map = places.unflatten(2, (self.grid, self.grid))
        start = torch.zeros_like(said[:, :1])
        logits = self.t5(
            encoder_outputs=(memory,),
            decoder_input_ids=torch.cat([start, said[:, :-1]], dim=1),
        ).logits
        outputs = {"tokens": tokens, "encoded": encoded, "misaligned_words": logits}
        for name, head in (
            *self.heatmap_predictor.items(),
            *self.score_predictor.items(),
        ):
            outputs[name] = head(feature_map)
        return outputs

    def predict(self, images, inputs, length):
        """What prediction needs of `forward`, and the words in `length` steps."""
        pixels = images.permute(0, 3, 1, 2).float() / 127.5 - 1
        tokens = self.visual_token_projection(self.vit(pixels).last_hidden_state)
        embedded = torch.cat([tokens, self.t5.shared(inputs)], dim=1)
        encoded = self.t5.encoder(inputs_embeds=embedded).last_hidden_state
        count = tokens.shape[1]
        places = encoded[:, 1:count].transpose(1, 2)
        feature_map = places.unflatten(2, (self.grid, self.grid))
        heads = (*self.heatmap_predictor.items(), *self.score_predictor.items())
        outputs = {name: head(feature_map) for name, head in heads}
        outputs["misaligned_words"] = self.speak(encoded[:, count:], length)
        return outputs

    def speak(self, memory, length):
        """Greedy, one token after the other, with transformers' own cache."""
        said, token, cache = [], torch.zeros(len(memory), 1, dtype=torch.long), None
        for _ in range(length):
            found = self.t5(
                encoder_outputs=(memory,),
                decoder_input_ids=token,
                past_key_values=cache,
                use_cache=True,
            )
            cache, token = found.past_key_values, found.logits[:, -1:].argmax(-1)
            said.append(token)
        return torch.cat(said, dim=1)
