"""A headless Chromium, driven through the DevTools protocol."""

import asyncio
import base64
import contextlib
import itertools
import os
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

START_SECONDS = 30
LISTENING = re.compile(rb"DevTools listening on (ws://\S+)")


class Tab:
    """One page of the browser.

    Attributes:
        complaints: What the browser said of the page: errors, and what its policy forbade.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.complaints: list[str] = []
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._session: str | None = None
        self._password: tuple[str, str] | None = None
        self._loaded = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    async def call(self, method: str, **parameters: Any) -> Any:
        """Call a method of the protocol; return its result."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        message = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        await self._socket.send_json(message)
        return await asyncio.wait_for(answer, START_SECONDS)

    async def open(self) -> None:
        """Open the tab."""
        target = await self.call("Target.createTarget", url="about:blank")
        attached = await self.call(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            await self.call(f"{domain}.enable")
        await self.call("Security.setIgnoreCertificateErrors", ignore=True)

    async def go(self, address: str) -> None:
        """Load a page, and all that it refers to."""
        self._loaded.clear()
        await self.call("Page.navigate", url=address)
        await asyncio.wait_for(self._loaded.wait(), START_SECONDS)

    async def log_in(self, name: str, password: str) -> None:
        """Answer as a person would who is asked for a name and a password."""
        self._password = name, password
        await self.call("Fetch.enable", handleAuthRequests=True)

    async def html(self) -> str:
        """Return the page as it is now; works without scripts too."""
        document = await self.call("DOM.getDocument")
        answer = await self.call("DOM.getOuterHTML", nodeId=document["root"]["nodeId"])
        return str(answer["outerHTML"])

    async def evaluate(self, expression: str) -> Any:
        """Return what an expression is in the page."""
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def wait_for(self, expression: str) -> None:
        """Wait until an expression is true in the page."""
        async with asyncio.timeout(START_SECONDS):
            while not await self.evaluate(f"Boolean({expression})"):
                await asyncio.sleep(0.1)

    async def screenshot(self, path: Path) -> None:
        """Keep a picture of the whole page."""
        taken = await self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(taken["data"]))

    async def close(self) -> None:
        """Read no more."""
        self._reader.cancel()
        await asyncio.wait({self._reader})

    async def _read(self) -> None:
        async for message in self._socket:
            said = message.json()
            if "id" in said:
                answer = self._answers.pop(said["id"])
                if "error" in said:
                    answer.set_exception(RuntimeError(str(said["error"])))
                else:
                    answer.set_result(said["result"])
            else:
                await self._take(said["method"], said["params"])

    async def _take(self, event: str, given: dict[str, Any]) -> None:
        match event:
            case "Page.loadEventFired":
                self._loaded.set()
            case "Log.entryAdded" if given["entry"]["level"] in ("warning", "error"):
                self.complaints.append(given["entry"]["text"])
            case "Runtime.exceptionThrown":
                self.complaints.append(str(given["exceptionDetails"]))
            case "Fetch.requestPaused":
                await self._tell("Fetch.continueRequest", requestId=given["requestId"])
            case "Fetch.authRequired":
                assert self._password is not None
                name, password = self._password
                shown = {"response": "ProvideCredentials", "username": name, "password": password}
                await self._tell(
                    "Fetch.continueWithAuth",
                    requestId=given["requestId"],
                    authChallengeResponse=shown,
                )

    async def _tell(self, method: str, **parameters: Any) -> None:
        """Call a method, and do not wait: who waits here reads no answer."""
        number = next(self._numbers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        message = {"id": number, "method": method, "params": parameters}
        await self._socket.send_json({**message, "sessionId": self._session})


@contextlib.asynccontextmanager
async def browsing(program: str, directory: Path) -> AsyncIterator[Tab]:
    """Run a browser with one tab until the block ends.

    Arguments:
        program: The browser.
        directory: Where it may write.
    """
    log = directory / "browser.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            program, "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0",
            "--window-size=1400,1000", f"--user-data-dir={directory / 'browser'}", "about:blank",
            stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        async with asyncio.timeout(START_SECONDS):
            while (found := LISTENING.search(log.read_bytes())) is None:
                assert process.returncode is None, log.read_text()
                await asyncio.sleep(0.05)
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(found[1].decode(), max_msg_size=0) as socket,
        ):
            tab = Tab(socket)
            await tab.open()
            try:
                yield tab
            finally:
                await tab.close()
    finally:
        # Packages start it by a script, whose end is not the browser's.
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
