"""MTCNN's three networks (Zhang et al. 2016, "Joint Face Detection and Alignment Using Multitask Cascaded Convolutional
Networks", Figure 2), in the layout of timesler/facenet-pytorch.

P-Net proposes squares, R-Net rejects most of them, O-Net classifies the rest and locates five landmarks. The offsets of
a box are fractions of its sides, added to left, top, right and bottom.
"""

from torch import Tensor, nn

CELL, STRIDE = 12, 2
"""Side of P-Net's receptive field and distance between neighbouring ones, in pixels."""
R_SIDE, O_SIDE = 24, 48
"""Input sides of R-Net and O-Net in pixels."""


class PNet(nn.Module):
    """Fully convolutional proposals, one for each square of `CELL` pixels, every `STRIDE` pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 10, 3)
        self.prelu1 = nn.PReLU(10)
        self.pool1 = nn.MaxPool2d(2, 2, ceil_mode=True)
        self.conv2 = nn.Conv2d(10, 16, 3)
        self.prelu2 = nn.PReLU(16)
        self.conv3 = nn.Conv2d(16, 32, 3)
        self.prelu3 = nn.PReLU(32)
        self.conv4_1 = nn.Conv2d(32, 2, 1)
        self.conv4_2 = nn.Conv2d(32, 4, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, 3, H, W) in [-1, 1], H, W >= `CELL`, to probabilities (N, H', W') and offsets (N, 4, H', W').

        The output at row i, column j is for the square with its top left corner at row STRIDE i, column STRIDE j.
        """
        x = self.pool1(self.prelu1(self.conv1(_levels(images))))
        x = self.prelu3(self.conv3(self.prelu2(self.conv2(x))))
        return self.conv4_1(x).softmax(1)[:, 1], self.conv4_2(x)


class RNet(nn.Module):
    """Refinement: the probability that a square shows a face, and the offsets of its box."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 28, 3)
        self.prelu1 = nn.PReLU(28)
        self.pool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2 = nn.Conv2d(28, 48, 3)
        self.prelu2 = nn.PReLU(48)
        self.pool2 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv3 = nn.Conv2d(48, 64, 2)
        self.prelu3 = nn.PReLU(64)
        self.dense4 = nn.Linear(576, 128)
        self.prelu4 = nn.PReLU(128)
        self.dense5_1 = nn.Linear(128, 2)
        self.dense5_2 = nn.Linear(128, 4)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, 3, 24, 24) in [-1, 1] to probabilities (N,) and offsets (N, 4)."""
        x = self.pool1(self.prelu1(self.conv1(_levels(images))))
        x = self.pool2(self.prelu2(self.conv2(x)))
        x = self.prelu3(self.conv3(x))
        x = self.prelu4(self.dense4(_flat(x)))
        return self.dense5_1(x).softmax(1)[:, 1], self.dense5_2(x)


class ONet(nn.Module):
    """Output: like R-Net at a higher resolution, with landmarks of the eyes, the nose and the corners of the mouth."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3)
        self.prelu1 = nn.PReLU(32)
        self.pool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.prelu2 = nn.PReLU(64)
        self.pool2 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv3 = nn.Conv2d(64, 64, 3)
        self.prelu3 = nn.PReLU(64)
        self.pool3 = nn.MaxPool2d(2, 2, ceil_mode=True)
        self.conv4 = nn.Conv2d(64, 128, 2)
        self.prelu4 = nn.PReLU(128)
        self.dense5 = nn.Linear(1152, 256)
        self.prelu5 = nn.PReLU(256)
        self.dense6_1 = nn.Linear(256, 2)
        self.dense6_2 = nn.Linear(256, 4)
        self.dense6_3 = nn.Linear(256, 10)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map (N, 3, 48, 48) in [-1, 1] to probabilities (N,), offsets (N, 4) and landmarks (N, 5, 2).

        Landmarks are (x, y) in fractions of the square's side from its top left corner: eyes, nose, corners of the
        mouth. The eye and the corner on the left of the image come first.
        """
        x = self.pool1(self.prelu1(self.conv1(_levels(images))))
        x = self.pool2(self.prelu2(self.conv2(x)))
        x = self.pool3(self.prelu3(self.conv3(x)))
        x = self.prelu4(self.conv4(x))
        x = self.prelu5(self.dense5(_flat(x)))
        points = self.dense6_3(x).view(-1, 2, 5).transpose(1, 2)  # published as five x, then five y
        return self.dense6_1(x).softmax(1)[:, 1], self.dense6_2(x), points


class MTCNN(nn.Module):
    """The three networks; `pixgraft.faces` implements the cascade."""

    def __init__(self) -> None:
        super().__init__()
        self.pnet = PNet()
        self.rnet = RNet()
        self.onet = ONet()


def _levels(images: Tensor) -> Tensor:
    """The normalisation that the weights expect: (level - 127.5) / 128, for images in [-1, 1]."""
    return images * (127.5 / 128)


def _flat(x: Tensor) -> Tensor:
    # The weights are from a framework that stores images column by column: x outermost, then y, then channels.
    return x.permute(0, 3, 2, 1).flatten(1)
