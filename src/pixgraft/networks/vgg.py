"""VGG16 (Simonyan and Zisserman 2015) as a feature network, in torchvision's layout.

Density and coverage (Naeem et al. 2020) use the features of its second fully connected layer.
"""

from torch import Tensor, nn

from pixgraft.networks.inputs import normalised, resized
from pixgraft.networks.trunks import vgg16


class VGG16(nn.Module):
    """Images to the 4096 features of the second fully connected layer, after its ReLU.

    This is Keras's layer `fc2`, which the authors of density and coverage used. The classification layer is omitted.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = vgg16()
        # The published layout has dropout, without parameters, at index 2; features must not be random.
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, 4096), nn.ReLU(), nn.Identity(), nn.Linear(4096, 4096), nn.ReLU()
        )

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, 3, H, W) in [-1, 1], resized to 224 x 224 with antialiasing, to non-negative (N, 4096)."""
        x = self.features(normalised(resized(images, 224, 224)))
        out: Tensor = self.classifier(x.flatten(1))
        return out
