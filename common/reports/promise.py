# ruff: noqa: E501
"""What a run promises to each person, in plain words and in two languages: the card and the report say the same.

Invariant: every figure follows from the run's public settings (`common.privacy.guarantee`); if nothing is promised, the
text says so first.
"""

from __future__ import annotations

from types import MappingProxyType

from common.privacy.guarantee import SHARES_NOISE, Guarantee, guarantee_of
from common.reports.figures import Label
from common.settings.config import LeagueConfig

OFF = Label(
    "Differential privacy: off. Nothing bounds what the model may reveal about one person.",
    "差分隐私：关闭。模型可能透露的个人信息没有上限约束。",
)
_SEEDED = Label(
    "This was a simulation with seeded noise: it can be replayed and taken away again, so NOTHING is promised. The "
    "figures below would hold with noise of the operating system.",
    "本次为使用固定随机种子的模拟：噪声可以重放并被减去，因此不作任何保证。以下数值仅在使用操作系统随机数时成立。",
)
_UNIT = MappingProxyType({
    "user": Label(
        "one user of a site, with all of the user's records there", "某一站点的一名用户及其在该站点的全部记录"
    ),
    "record": Label(
        "what one user did at a site in one span of {days} day(s), with the reviews written then",
        "一名用户在某一站点 {days} 天内的全部行为及其间所写评论",
    ),
    "site": Label(
        "all data of one site", "一个站点的全部数据"
    ),
})  # fmt: skip
_MODE = MappingProxyType({
    "user": Label("Differential privacy at user level", "用户级差分隐私"),
    "record": Label("Differential privacy at record level", "记录级差分隐私"),
    "distributed": Label("Differential privacy at user level, with noise shared over sites", "用户级差分隐私（噪声由各站点分担）"),
    "site": Label("Differential privacy at site level, with noise shared over sites", "站点级差分隐私（噪声由各站点分担）"),
})  # fmt: skip
_ADVERSARY = MappingProxyType({
    "local": Label(
        "whoever sees every update of the site, the coordinator included", "能看到该站点每一次更新的任何人，包括协调方"
    ),
    "shared": Label(
        "whoever sees each round's sum and the model, as long as at least {honest} sites are honest (and the "
        "protection “{protection}” hides single updates)",
        "能看到每轮总和与模型的任何人，前提是至少 {honest} 个站点诚实（且保护方式“{protection}”隐藏单个更新）",
    ),
})  # fmt: skip


def promise(config: LeagueConfig) -> tuple[Label, ...]:
    """The paragraphs: headline, meaning, accounting, what the mode adds, and what isn't covered."""
    guarantee = guarantee_of(config)
    if guarantee is None:
        return (OFF,)
    parts = [_headline(guarantee), _meaning(config, guarantee), _accounting(config, guarantee)]
    if guarantee.mode in SHARES_NOISE and guarantee.epsilon_alone is not None:
        parts.append(Label(
            f"A site's own part of the noise alone, if all others collude, gives ε = {guarantee.epsilon_alone:.2f}.",
            f"若其他所有站点串通，仅凭本站点自己的噪声可保证 ε = {guarantee.epsilon_alone:.2f}。",
        ))  # fmt: skip
    if guarantee.mode == "record" and guarantee.epsilon_user is not None:
        most = config.privacy.records_per_user
        parts.append(Label(
            f"A user has at most {most} records here; for a whole user that adds up to ε = {guarantee.epsilon_user:.1f} (group "
            "privacy). Purchase intent over several spans is not taught in this mode.",
            f"每名用户最多 {most} 条记录；对整个用户累计为 ε = {guarantee.epsilon_user:.1f}（群体隐私）。此模式不训练跨时段的购买意向。",
        ))  # fmt: skip
    if guarantee.mode == "site" and guarantee.epsilon_user is not None:
        parts.append(Label(
            "For one customer of a site the promise is weaker: by coming or going one can turn the site's move round, which counts "
            f"as two sites, ε = {guarantee.epsilon_user:.1f} (group privacy). So much each site's ledger takes from its budget.",
            "对站点的一名顾客，保证较弱：一名顾客的增减可使站点的改变量反向，相当于两个站点，"
            f"ε = {guarantee.epsilon_user:.1f}（群体隐私）。各站点的账本按此数值扣减预算。",
        ))  # fmt: skip
    parts.append(_not_covered(guarantee))
    return (_SEEDED, *parts) if guarantee.seeded else tuple(parts)


def _headline(guarantee: Guarantee) -> Label:
    name = _MODE[guarantee.mode]
    return Label(
        f"{name.en} (mode “{guarantee.mode}”): ε = {guarantee.epsilon:.2f}, δ = {guarantee.delta:g} for this run at each site.",
        f"{name.zh}（模式“{guarantee.mode}”）：本次运行中每个站点 ε = {guarantee.epsilon:.2f}，δ = {guarantee.delta:g}。",
    )


def _meaning(config: LeagueConfig, guarantee: Guarantee) -> Label:
    unit, privacy = _UNIT[guarantee.unit], config.privacy
    adversary = _ADVERSARY["shared" if guarantee.mode in SHARES_NOISE else "local"]
    values = {
        "days": privacy.record_days,
        "honest": privacy.honest_sites,
        "protection": config.rounds.protection,
    }
    return Label(
        f"Who is protected: {unit.en.format(**values)}. Against: {adversary.en.format(**values)}. They can hardly tell whether "
        f"it took part at all: no conclusion becomes more than e^ε = {_times(guarantee.epsilon)} times as likely, but for a "
        "chance of about δ.",
        f"受保护单位：{unit.zh.format(**values)}。防范对象：{adversary.zh.format(**values)}。对方几乎无法判断其是否参与："
        f"除约 δ 的概率外，任何结论的可能性最多变为 e^ε = {_times(guarantee.epsilon)} 倍。",
    )  # fmt: skip


def _accounting(config: LeagueConfig, guarantee: Guarantee) -> Label:
    rounds, sigma = config.rounds.count, guarantee.noise_multiplier
    if guarantee.epsilon_pld is None:
        pld_en = "the second library's figure is left out, as no theorem lets it stand for sums of whole-number noise"
        pld_zh = "第二个库的数值从略，因为没有定理支持其用于整数噪声之和"
    else:
        pld_en = f"{guarantee.epsilon_pld:.2f} by privacy-loss distributions (dp-accounting)"
        pld_zh = f"按隐私损失分布（dp-accounting）为 {guarantee.epsilon_pld:.2f}"
    return Label(
        f"Accounted for adding or removing one {guarantee.unit}, over {rounds} rounds with noise of {sigma:g} times the clip: "
        f"ε = {guarantee.epsilon:.2f} by Rényi accounting (Opacus), which is the gate; {pld_en}. Replacing one for another "
        "costs 1.05 to 2.3 times that. Noise and sampling come from the operating system."
        if not guarantee.seeded
        else f"Accounted as if unseeded: ε = {guarantee.epsilon:.2f} by Rényi accounting (Opacus); {pld_en}.",
        f"按增删一个单位计算，共 {rounds} 轮，噪声为裁剪范数的 {sigma:g} 倍：按 Rényi 核算（Opacus，作为闸门）"
        f"ε = {guarantee.epsilon:.2f}；{pld_zh}。以一换一的代价为其 1.05 至 2.3 倍。"
        + ("噪声与抽样来自操作系统。" if not guarantee.seeded else ""),
    )  # fmt: skip


def _not_covered(guarantee: Guarantee) -> Label:
    several, several_zh = (
        "a person who is a user of several sites (ε adds up), ",
        "同时是多个站点用户的人（ε 相加）、",
    )
    return Label(
        f"Not covered: {several}other runs and statistics on the same data (each site's own ledger adds them up), the "
        "dates that part training from testing, the catalogue and what a merchant sells, how long a site takes to answer, "
        "and what a site fits and keeps itself: its own weights, popularity, calibration, recommendations, and the "
        "figures of this report, which a simulation reads from the sites' own folders.",
        f"不包括：{several_zh}对同一数据的其他运行与统计（由各站点自己的账本累计）、训练与测试的分界日期、商品目录与商家所售商品、"
        "站点应答所需的时间，以及站点自行拟合并保留的内容：自己的权重、热度、校准、推荐结果，以及本报告中由模拟程序从各站点文件夹读取的数值。",
    )  # fmt: skip


def _times(epsilon: float) -> str:
    times = 2.718281828459045**epsilon
    return f"{times:.1f}" if times < 100 else f"{times:,.0f}"
