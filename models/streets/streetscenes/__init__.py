"""Street scenes drawn from nothing but a seed, with Cityscapes' labels to every pixel.

No photograph and no data set has part in them.  ``Scene(seed).render(256, 512)`` is a picture and its
labels; ``draw_video`` drives through one scene.
"""

from streetscenes.labels import CLASSES, PALETTE, VOID, Picture
from streetscenes.scene import Scene, draw_scene, draw_video

__all__ = ["CLASSES", "PALETTE", "VOID", "Picture", "Scene", "draw_scene", "draw_video"]
