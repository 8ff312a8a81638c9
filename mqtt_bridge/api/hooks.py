"""What brokers ask over HTTP, in the forms of RabbitMQ, EMQX and mosquitto-go-auth. Our own broker asks the
authority itself.

| broker | asks | answer |
|---|---|---|
| RabbitMQ (`rabbitmq_auth_backend_http`) | `/rabbitmq/user`, `vhost`, `resource`, `topic`, form | `allow` or `deny` |
| EMQX (HTTP authentication and authorization) | `/emqx/authentication`, `/emqx/authorization`, JSON | `{"result": …}` |
| mosquitto-go-auth (http backend) | `/mosquitto/user`, `superuser`, `acl`, JSON or form | 200 or 403 |

The bridge's own account may do everything below `dh/`. When the platform can't answer, the answer is no.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct
from tornado.web import RequestHandler

from mqtt_bridge.core.authority import PUBLISH, SUBSCRIBE, Question, YesOrNo


class Hook(RequestHandler):
    """authority: the answers."""

    def initialize(self, authority: YesOrNo) -> None:
        self.authority = authority

    def set_default_headers(self) -> None:
        self.clear_header("Server")

    def text(self, name: str) -> str:
        """A field of the form or the query."""
        return str(self.get_argument(name, "", strip=False))


class RabbitUser(Hook):
    async def get(self) -> None:
        client_id, username = self.text("client_id"), self.text("username")
        may = await self.authority.may_connect(client_id, username, self.text("password"), "")
        self.finish("allow" if may else "deny")

    post = get


class RabbitAlways(Hook):
    """Virtual hosts, exchanges and queues: what a client may do is a question of topics."""

    async def get(self) -> None:
        self.finish("allow")

    post = get


class RabbitTopic(Hook):
    """`routing_key`: the topic with `.` for `/`, `*` for `+`."""

    async def get(self) -> None:
        topic = self.text("routing_key").replace(".", "/").replace("*", "+")
        access = PUBLISH if self.text("permission") == "write" else SUBSCRIBE
        client_id = self.text("variable_map.client_id")
        may = await self.authority.may(Question(client_id, self.text("username"), access, topic))
        self.finish("allow" if may else "deny")

    post = get


class Emqx(Struct):
    """EMQX's names, as `docs/mqtt.md` configures them."""

    clientid: str = ""
    username: str | None = None
    password: str | None = None
    peerhost: str = ""
    action: str = ""
    topic: str = ""
    retain: bool | str = False


_emqx = msgspec.json.Decoder(Emqx, strict=False)


class JsonHook(Hook):
    async def post(self) -> None:
        try:
            asked = _emqx.decode(self.request.body)
        except msgspec.DecodeError:
            self.set_status(400)
            self.finish()
            return
        self.set_header("Content-Type", "application/json")
        self.finish(msgspec.json.encode({"result": "allow" if await self.answer(asked) else "deny"}))

    async def answer(self, asked: Emqx) -> bool:
        raise NotImplementedError


class EmqxAuthentication(JsonHook):
    async def answer(self, asked: Emqx) -> bool:
        name, password = asked.username or "", asked.password or ""
        return await self.authority.may_connect(asked.clientid, name, password, asked.peerhost)


class EmqxAuthorization(JsonHook):
    async def answer(self, asked: Emqx) -> bool:
        access = PUBLISH if asked.action == PUBLISH else SUBSCRIBE
        retain = asked.retain in (True, "true", "1")
        return await self.authority.may(Question(asked.clientid, asked.username or "", access, asked.topic, retain))


READ, WRITE, READ_WRITE, SUBSCRIBE_BIT = 1, 2, 3, 4
"""`acc` of mosquitto-go-auth."""


class Mosquitto(Struct):
    username: str = ""
    password: str = ""
    clientid: str = ""
    topic: str = ""
    acc: int = 0


_mosquitto = msgspec.json.Decoder(Mosquitto, strict=False)


class MosquittoHook(Hook):
    """JSON or form, as `auth_opt_http_params_mode` says."""

    async def post(self) -> None:
        asked = self._asked()
        may = asked is not None and await self.answer(asked)
        self.set_status(200 if may else 403)
        self.finish()

    def _asked(self) -> Mosquitto | None:
        if not self.request.headers.get("Content-Type", "").startswith("application/json"):
            acc = self.text("acc")
            names = {name: self.text(name) for name in ("username", "password", "clientid", "topic")}
            return Mosquitto(acc=int(acc) if acc.isdigit() else 0, **names)
        try:
            return _mosquitto.decode(self.request.body)
        except msgspec.DecodeError:
            return None

    async def answer(self, asked: Mosquitto) -> bool:
        raise NotImplementedError


class MosquittoUser(MosquittoHook):
    async def answer(self, asked: Mosquitto) -> bool:
        return await self.authority.may_connect(asked.clientid, asked.username, asked.password, "")


class MosquittoSuperuser(MosquittoHook):
    async def answer(self, asked: Mosquitto) -> bool:
        return False


class MosquittoAcl(MosquittoHook):
    async def answer(self, asked: Mosquitto) -> bool:
        """READ is asked for each message that is handed out, with its topic."""
        access = PUBLISH if asked.acc == WRITE else SUBSCRIBE
        return await self.authority.may(Question(asked.clientid, asked.username, access, asked.topic))


def handlers(authority: YesOrNo) -> list[tuple[str, type[Hook], dict[str, Any]]]:
    paths: dict[str, type[Hook]] = {
        "/rabbitmq/user": RabbitUser,
        "/rabbitmq/vhost": RabbitAlways,
        "/rabbitmq/resource": RabbitAlways,
        "/rabbitmq/topic": RabbitTopic,
        "/emqx/authentication": EmqxAuthentication,
        "/emqx/authorization": EmqxAuthorization,
        "/mosquitto/user": MosquittoUser,
        "/mosquitto/superuser": MosquittoSuperuser,
        "/mosquitto/acl": MosquittoAcl,
    }
    return [(path, handler, {"authority": authority}) for path, handler in paths.items()]
