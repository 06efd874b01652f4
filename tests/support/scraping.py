"""What the page of metrics says."""

from aiohttp import ClientSession
from prometheus_client.parser import text_string_to_metric_families


def sums(page: str, name: str, **labels: str) -> float:
    """Return the sum of the samples of this name with these labels."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


async def scrape(port: int, path: str = "/metrics", accept: str = "*/*") -> str:
    """Return the page that a port serves."""
    async with (
        ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}{path}", headers={"Accept": accept}) as response,
    ):
        assert response.status == 200
        return await response.text()
