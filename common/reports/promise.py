# ruff: noqa: E501
"""What a run promises to each person, in plain words and in two languages: the card and the report say the same.

Invariant: every figure follows from the run's public settings (`common.privacy.guarantee`), and where nothing is
promised that stands first.
"""

from __future__ import annotations

from types import MappingProxyType

from common.privacy.guarantee import Guarantee, guarantee_of
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
    "site": Label("all data of one site", "一个站点的全部数据"),
})  # fmt: skip
_MODE = MappingProxyType({
    "user": Label("Differential privacy at user level", "用户级差分隐私"),
    "record": Label("Differential privacy at record level", "记录级差分隐私"),
    "distributed": Label("Differential privacy at user level, with noise shared over sites", "用户级差分隐私（噪声由各站点分担）"),
    "site": Label("Differential privacy at site level", "站点级差分隐私"),
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
    found = guarantee_of(config)
    if found is None:
        return (OFF,)
    parts = [_headline(found), _meaning(config, found), _accounting(config, found)]
    if found.mode == "distributed" and found.epsilon_alone is not None:
        parts.append(Label(
            f"A site's own part of the noise alone, if all others collude, gives ε = {found.epsilon_alone:.2f}.",
            f"若其他所有站点串通，仅凭本站点自己的噪声可保证 ε = {found.epsilon_alone:.2f}。",
        ))  # fmt: skip
    if found.mode == "record" and found.epsilon_user is not None:
        most = config.privacy.records_per_user
        parts.append(Label(
            f"A user has at most {most} records here; for a whole user that adds up to ε = {found.epsilon_user:.1f} (group "
            "privacy). Purchase intent over several spans is not taught in this mode.",
            f"每名用户最多 {most} 条记录；对整个用户累计为 ε = {found.epsilon_user:.1f}（群体隐私）。此模式不训练跨时段的购买意向。",
        ))  # fmt: skip
    parts.append(_not_covered(found))
    return (_SEEDED, *parts) if found.seeded else tuple(parts)


def _headline(found: Guarantee) -> Label:
    name = _MODE[found.mode]
    return Label(
        f"{name.en} (mode “{found.mode}”): ε = {found.epsilon:.2f}, δ = {found.delta:g} for this run at each site.",
        f"{name.zh}（模式“{found.mode}”）：本次运行中每个站点 ε = {found.epsilon:.2f}，δ = {found.delta:g}。",
    )


def _meaning(config: LeagueConfig, found: Guarantee) -> Label:
    unit, privacy = _UNIT[found.unit], config.privacy
    who = _ADVERSARY["shared" if found.mode == "distributed" else "local"]
    values = {
        "days": privacy.record_days,
        "honest": privacy.honest_sites,
        "protection": config.rounds.protection,
    }
    return Label(
        f"Who is protected: {unit.en.format(**values)}. Against: {who.en.format(**values)}. They can hardly tell whether "
        f"it took part at all: no conclusion becomes more than e^ε = {_times(found.epsilon)} times as likely, but for a "
        "chance of about δ.",
        f"受保护单位：{unit.zh.format(**values)}。防范对象：{who.zh.format(**values)}。对方几乎无法判断其是否参与："
        f"除约 δ 的概率外，任何结论的可能性最多变为 e^ε = {_times(found.epsilon)} 倍。",
    )  # fmt: skip


def _accounting(config: LeagueConfig, found: Guarantee) -> Label:
    rounds, sigma = config.rounds.count, found.noise_multiplier
    if found.epsilon_pld is None:
        pld_en = "the second library's figure is left out, as no theorem lets it stand for sums of whole-number noise"
        pld_zh = "第二个库的数值从略，因为没有定理支持其用于整数噪声之和"
    else:
        pld_en = f"{found.epsilon_pld:.2f} by privacy-loss distributions (dp-accounting)"
        pld_zh = f"按隐私损失分布（dp-accounting）为 {found.epsilon_pld:.2f}"
    return Label(
        f"Accounted for adding or removing one {found.unit}, over {rounds} rounds with noise of {sigma:g} times the clip: "
        f"ε = {found.epsilon:.2f} by Rényi accounting (Opacus), which is the gate; {pld_en}. Replacing one for another "
        "costs 1.05 to 2.3 times that. Noise and sampling come from the operating system."
        if not found.seeded
        else f"Accounted as if unseeded: ε = {found.epsilon:.2f} by Rényi accounting (Opacus); {pld_en}.",
        f"按增删一个单位计算，共 {rounds} 轮，噪声为裁剪范数的 {sigma:g} 倍：按 Rényi 核算（Opacus，作为闸门）"
        f"ε = {found.epsilon:.2f}；{pld_zh}。以一换一的代价为其 1.05 至 2.3 倍。"
        + ("噪声与抽样来自操作系统。" if not found.seeded else ""),
    )  # fmt: skip


def _not_covered(found: Guarantee) -> Label:
    several = "a person who is a user of several sites (ε adds up), " if found.unit != "site" else ""
    several_zh = "同时是多个站点用户的人（ε 相加）、" if found.unit != "site" else ""
    return Label(
        f"Not covered: {several}other runs and statistics on the same data (each site's own ledger adds them up), the "
        "dates that part training from testing, the catalogue and what a merchant sells, how long a site takes to answer, "
        "and what a site fits and keeps itself: its fine-tuned model, popularity, calibration, recommendations, and the "
        "figures of this report, which a simulation reads from the sites' own folders.",
        f"不包括：{several_zh}对同一数据的其他运行与统计（由各站点自己的账本累计）、训练与测试的分界日期、商品目录与商家所售商品、"
        "站点应答所需的时间，以及站点自行拟合并保留的内容：微调模型、热度、校准、推荐结果，以及本报告中由模拟程序从各站点文件夹读取的数值。",
    )  # fmt: skip


def _times(epsilon: float) -> str:
    times = 2.718281828459045**epsilon
    return f"{times:.1f}" if times < 100 else f"{times:,.0f}"
