from fedbus.control.load import NS_PER_S
from fedbus.control.load_model import LoadModel, eventful_model

DAY = 24 * 3600 * NS_PER_S
MONDAY = 1735516800 * NS_PER_S  # 2024-12-30T00:00Z


def test_the_same_seed_gives_the_same_load_wherever_the_replay_starts():
    model = LoadModel(seed=7)
    whole = list(model.samples(MONDAY, MONDAY + DAY))
    assert list(LoadModel(seed=7).samples(MONDAY + DAY // 2, MONDAY + DAY)) == whole[720:]
    assert list(LoadModel(seed=8).samples(MONDAY, MONDAY + DAY)) != whole
    assert len(whole) == 1440


def test_days_peak_where_told_and_weekends_are_quieter():
    model = LoadModel(seed=1, peak_hour=14.0)
    hourly = [model.rate_eps(MONDAY + hour * DAY // 24) for hour in range(24)]
    assert hourly.index(max(hourly)) in range(13, 18)
    assert max(hourly) > 3 * min(hourly)
    assert model.rate_eps(MONDAY + 5 * DAY) < 0.8 * model.rate_eps(MONDAY)


def test_campaign_and_burst_raise_the_load_in_their_windows_only():
    now = MONDAY + DAY // 2
    model = eventful_model(3, now)
    plain = LoadModel(seed=3, growth_since_ns=model.growth_since_ns)
    campaign, burst = model.campaigns[-1], model.bursts[-1]
    middle = (campaign.start_ns + campaign.end_ns) // 2
    assert model.rate_eps(middle) > 1.7 * plain.rate_eps(middle)
    assert model.rate_eps(now) == plain.rate_eps(now)
    middle = (burst.start_ns + burst.end_ns) // 2
    assert model.rate_eps(middle) > 2.4 * plain.rate_eps(middle)
    assert all(not trigger.overlaps(burst.start_ns, burst.end_ns) for trigger in model.campaigns)
