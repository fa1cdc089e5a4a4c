"""Waiting for conditions."""

import asyncio


async def until(condition, deadline_s: float = 20.0):
    """Wait until a condition holds; a test that waits in vain fails here."""
    async with asyncio.timeout(deadline_s):
        while not condition():
            await asyncio.sleep(0.005)
