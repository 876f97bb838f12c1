"""From other libraries' quantizers and checkpoints to ours, with the same indices on the same inputs."""

from codebound.migrate.encodec import from_encodec
from codebound.migrate.taming import from_taming
from codebound.migrate.vector_quantize_pytorch import from_vector_quantize_pytorch

__all__ = ["from_encodec", "from_taming", "from_vector_quantize_pytorch"]
