"""server/info, server/cacheInfo, cluster/info."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from frontend.core import services
from frontend.core.actions.table import Request, action
from skep.wire import timestamps, views

if TYPE_CHECKING:
    from frontend.core.session import Session


class ServerInfo(Request, tag="server/info"):
    pass


@action(ServerInfo, answers={"info": views.ServerInfo})
def server(session: Session, request: ServerInfo) -> dict[str, Any]:
    time = timestamps.format(services.now())
    return {"info": views.ServerInfo(services.API_VERSION, time, session.rest_url)}


class CacheInfo(Request, tag="server/cacheInfo"):
    pass


@action(CacheInfo, answers={"cacheInfo": views.CacheInfo})
def cache(session: Session, request: CacheInfo) -> dict[str, Any]:
    return {"cacheInfo": services.cache_info(session.services)}


class ClusterInfo(Request, tag="cluster/info"):
    pass


@action(ClusterInfo, answers={"clusterInfo": views.ClusterInfo})
async def cluster(session: Session, request: ClusterInfo) -> dict[str, Any]:
    return {"clusterInfo": await services.cluster_info(session.services)}
