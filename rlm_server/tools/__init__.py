"""Tools: functions of the user's own that the model's code may call and that run in the server."""

from rlm_server.tools.tool import Tool, ToolInfo
from rlm_server.tools.toolbox import Toolbox

__all__ = ["Tool", "ToolInfo", "Toolbox"]
