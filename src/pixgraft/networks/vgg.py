"""VGG16 (Simonyan and Zisserman 2015) as a feature network, in torchvision's layout.

Density and coverage (Naeem et al. 2020) are measured in its second fully connected layer.
"""

from torch import Tensor, nn

from pixgraft.networks.inputs import normalised, resized
from pixgraft.networks.trunks import vgg16


class VGG16(nn.Module):
    """Images to the 4096 values of the second fully connected layer, after its ReLU.

    After the ReLU, as the layer `fc2` of Keras is, which the authors of density and coverage read. The layer that
    names the thousand classes is left out.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = vgg16()
        # The published layout drops out at 2: a place that holds no tensors, and features are not to be random.
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, 4096), nn.ReLU(), nn.Identity(), nn.Linear(4096, 4096), nn.ReLU()
        )

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1], resized to 224 x 224 with antialiasing, gives (N, 4096), none below zero."""
        x = self.features(normalised(resized(images, 224, 224)))
        out: Tensor = self.classifier(x.flatten(1))
        return out
