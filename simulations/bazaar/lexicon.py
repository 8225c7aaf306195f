"""Words in English and Chinese for the same concepts.

Each told dimension has five steps from one pole to the other, each step with several wordings. The two languages
say the same things but not word for word: numbers of synonyms differ, so there is no bijection to exploit.

Invariant: both lexicons cover all of `TEXT_DIMS` with five steps, and all categories.
"""

from __future__ import annotations

from dataclasses import dataclass

from simulations.bazaar.world import Dim

Steps = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Lexicon:
    """All that a merchant of one language can say. Templates use ``{thing}``, ``{word}``, ``{brand}``."""

    categories: tuple[tuple[str, ...], ...]
    steps: dict[Dim, Steps]
    sentences: dict[Dim, tuple[str, ...]]
    titles: tuple[str, ...]
    openings: tuple[str, ...]
    filler: tuple[str, ...]
    attribute_names: dict[Dim, str]
    brands: tuple[str, ...]
    praise: Steps
    aspects: tuple[str, ...]
    negated_good: tuple[str, ...]
    negated_bad: tuple[str, ...]
    turns: tuple[str, ...]
    review_forms: tuple[str, ...]
    fake: tuple[str, ...]
    stop: str
    joint: str


ENGLISH = Lexicon(
    categories=(
        ("scarf", "shawl"),
        ("coat", "jacket"),
        ("shirt", "blouse"),
        ("skirt", "dress"),
        ("shoes", "sneakers", "boots"),
        ("handbag", "bag", "tote"),
        ("hat", "cap"),
        ("mug", "cup"),
        ("vase", "flower vase"),
        ("lamp", "table lamp"),
        ("cushion", "pillow"),
        ("rug", "carpet"),
        ("chair", "stool"),
        ("bottle", "flask"),
        ("notebook", "journal"),
        ("watch", "wristwatch"),
    ),
    steps={
        Dim.MATERIAL: (
            ("raw linen", "undyed wool", "natural hemp", "cork and straw"),
            ("cotton", "vegetable-tanned leather", "oak"),
            ("cotton blend", "canvas", "mixed materials"),
            ("nylon", "polyester", "coated synthetic"),
            ("carbon fibre", "titanium mesh", "high-tech polymer", "graphene composite"),
        ),
        Dim.OCCASION: (
            ("mountain hikes and camping", "rain, mud and trails", "expeditions outdoors"),
            ("cycling and sport", "days in the park"),
            ("everyday use", "the office and the weekend"),
            ("dinner with friends", "an evening at the theatre"),
            ("weddings and balls", "a gala night", "grand celebrations"),
        ),
        Dim.HERITAGE: (
            ("handmade by village artisans", "woven as centuries ago", "from an ancient workshop"),
            ("traditional", "vintage", "old-fashioned"),
            ("timeless", "classic"),
            ("modern", "contemporary"),
            ("smart and app-controlled", "with built-in sensors", "futuristic electronic"),
        ),
        Dim.WARMTH: (
            ("icy blue", "glacier blue"),
            ("teal", "sea green"),
            ("olive", "beige"),
            ("amber", "orange"),
            ("fiery red", "crimson", "scarlet"),
        ),
        Dim.LIGHTNESS: (
            ("very dark", "almost black"),
            ("deep", "dark"),
            ("medium", "mid-toned"),
            ("light", "soft"),
            ("very pale", "pastel", "nearly white"),
        ),
        Dim.ORNATE: (
            ("bare and minimalist", "without any decoration", "austere"),
            ("plain", "simple"),
            ("lightly detailed", "neat"),
            ("decorated", "richly patterned"),
            ("lavishly ornamented", "baroque, full of decoration", "opulent"),
        ),
        Dim.TONE: (
            ("Data sheet enclosed.", "Specifications on request.", "See technical data below."),
            ("A sound choice.", "Solid value."),
            ("You may like it.", "Worth a look."),
            ("You will love it!", "A true favourite!"),
            ("WOW!!! Grab it NOW!!!", "Hottest hit ever, don't miss it!!!", "SALE SALE SALE, unbelievable!"),
        ),
    },
    sentences={
        Dim.MATERIAL: ("Made of {word}.", "The material is {word}.", "{word}, carefully worked."),
        Dim.OCCASION: ("Ideal for {word}.", "Think of {word}.", "We made it for {word}."),
        Dim.HERITAGE: ("It is {word}.", "This piece is {word}.", "A {thing}, {word}."),
        Dim.WARMTH: ("It comes in {word}.", "Colour: {word}.", "The shade is {word}."),
        Dim.LIGHTNESS: ("The colour is {word}.", "A {word} tone."),
        Dim.ORNATE: ("The look is {word}.", "Design: {word}.", "A {word} style."),
        Dim.TONE: ("{word}",),
    },
    titles=("{a} {b} {thing}", "{thing}, {a}, {b}", "{brand} {thing}: {a}", "{a} {thing} by {brand}"),
    openings=(
        "A {thing} by {brand}.",
        "{brand} presents this {thing}.",
        "Our {thing} of the season.",
        "Here is a {thing} you can use.",
    ),
    filler=(
        "Ships within three days.",
        "Free returns for a month.",
        "Packed without plastic.",
        "The box holds one piece.",
        "Designed by our small team.",
        "Customers also ask for gift wrap.",
        "Sizes differ a little from piece to piece.",
        "Number of the lot is on the label.",
    ),
    attribute_names={
        Dim.MATERIAL: "material",
        Dim.WARMTH: "colour",
        Dim.ORNATE: "style",
        Dim.OCCASION: "occasion",
    },
    brands=("Lindqvist", "Harbour & Co", "Oda", "Northwell", "Pelle", "Greyfield", "Maren", "Tolvan"),
    praise=(
        ("terrible", "awful", "a complete waste of money", "broken after a day"),
        ("disappointing", "poor", "worse than I hoped"),
        ("okay", "average", "so-so"),
        ("good", "nice", "well made"),
        ("wonderful", "excellent", "I absolutely love it", "perfect"),
    ),
    aspects=(
        "the finish",
        "the colour",
        "the fit",
        "the delivery",
        "the price",
        "the feel",
        "the stitching",
        "the packaging",
    ),
    negated_good=("not bad at all", "no complaints", "nothing to criticise"),
    negated_bad=("not good", "not worth the price", "not what I expected"),
    turns=("but {aspect} is {word}", "although {aspect} was {word}", "only {aspect} is {word}"),
    review_forms=(
        "{word}. {aspect}: {second}.",
        "This {thing} is {word}, and {aspect} is {second}.",
        "Bought the {thing} last week. {word}.",
        "{aspect} is {second}. All in all {word}.",
    ),
    fake=(
        "Best {thing} ever!! Five stars, buy it now!!",
        "Amazing product, amazing seller, highly recommended!!",
        "Perfect perfect perfect, everyone should buy this {thing}!",
    ),
    stop=" ",
    joint=" ",
)

CHINESE = Lexicon(
    categories=(
        ("围巾", "披肩"),
        ("大衣", "外套", "夹克"),
        ("衬衫", "上衣"),
        ("裙子", "连衣裙"),
        ("鞋子", "运动鞋", "靴子"),
        ("手提包", "包包"),
        ("帽子", "鸭舌帽"),
        ("杯子", "马克杯"),
        ("花瓶",),
        ("台灯", "灯"),
        ("抱枕", "靠垫"),
        ("地毯", "毯子"),
        ("椅子", "凳子"),
        ("水瓶", "水壶", "保温瓶"),
        ("笔记本", "手账本"),
        ("手表", "腕表"),
    ),
    steps={
        Dim.MATERIAL: (
            ("原色亚麻", "天然羊毛", "天然麻料", "软木和稻草"),
            ("纯棉", "植鞣皮革", "橡木"),
            ("棉混纺", "帆布", "混合材料"),
            ("尼龙", "涤纶", "合成涂层面料"),
            ("碳纤维", "钛金属网", "高科技聚合物", "石墨烯复合材料"),
        ),
        Dim.OCCASION: (
            ("登山和露营", "雨天泥泞山路", "户外探险"),
            ("骑行和运动", "公园休闲"),
            ("日常使用", "上班和周末"),
            ("朋友聚餐", "晚上看戏"),
            ("婚礼和舞会", "盛大晚宴", "隆重庆典"),
        ),
        Dim.HERITAGE: (
            ("乡村工匠手工制作", "百年古法编织", "出自古老作坊"),
            ("传统", "复古", "怀旧"),
            ("永恒经典", "经典"),
            ("现代", "当代"),
            ("智能，手机应用控制", "内置传感器", "未来感电子"),
        ),
        Dim.WARMTH: (
            ("冰蓝色", "冰川蓝"),
            ("青色", "海绿色"),
            ("橄榄色", "米色"),
            ("琥珀色", "橙色"),
            ("火红色", "深红色", "大红色"),
        ),
        Dim.LIGHTNESS: (
            ("非常暗", "近乎黑色"),
            ("深色", "暗色"),
            ("中等色调",),
            ("浅色", "柔和"),
            ("非常浅", "粉彩", "近乎白色"),
        ),
        Dim.ORNATE: (
            ("极简，没有装饰", "朴素极简", "毫无装饰"),
            ("素净", "简单"),
            ("略有细节", "整洁"),
            ("有装饰", "花纹丰富"),
            ("华丽装饰", "巴洛克式，装饰繁复", "奢华"),
        ),
        Dim.TONE: (
            ("附数据表。", "规格备索。", "技术参数见下。"),
            ("可靠的选择。", "物有所值。"),
            ("您也许会喜欢。", "值得一看。"),
            ("您一定会爱上它！", "真正的人气之选！"),
            ("哇！！！马上抢购！！！", "史上最火爆款，千万别错过！！！", "大促大促大促，难以置信！"),
        ),
    },
    sentences={
        Dim.MATERIAL: ("采用{word}制成。", "材质为{word}。", "{word}，精心制作。"),
        Dim.OCCASION: ("非常适合{word}。", "为{word}而设计。", "{word}的好选择。"),
        Dim.HERITAGE: ("这款是{word}的。", "{word}的{thing}。", "特点：{word}。"),
        Dim.WARMTH: ("颜色是{word}。", "{word}款。", "色彩：{word}。"),
        Dim.LIGHTNESS: ("色调{word}。", "颜色{word}。"),
        Dim.ORNATE: ("外观{word}。", "设计：{word}。", "风格{word}。"),
        Dim.TONE: ("{word}",),
    },
    titles=("{a} {b} {thing}", "{thing} {a} {b}", "{brand}{thing} {a}", "【{brand}】{a} {thing}"),
    openings=(
        "{brand}出品的{thing}。",
        "{brand}为您带来这款{thing}。",
        "本季{thing}。",
        "一款实用的{thing}。",
    ),
    filler=(
        "三天内发货。",
        "一个月内免费退货。",
        "包装不含塑料。",
        "盒内一件。",
        "由我们的小团队设计。",
        "可提供礼品包装。",
        "每件尺寸略有差异。",
        "批号见标签。",
    ),
    attribute_names={Dim.MATERIAL: "材质", Dim.WARMTH: "颜色", Dim.ORNATE: "风格", Dim.OCCASION: "场合"},
    brands=("云栖", "锦和", "南桥", "青禾", "拾光", "木白", "海棠", "远山"),
    praise=(
        ("太差了", "非常糟糕", "完全浪费钱", "用了一天就坏了"),
        ("令人失望", "质量差", "不如预期"),
        ("还行", "一般", "马马虎虎"),
        ("不错", "挺好的", "做工很好"),
        ("太棒了", "非常优秀", "非常喜欢", "完美"),
    ),
    aspects=("做工", "颜色", "尺寸", "物流", "价格", "手感", "缝线", "包装"),
    negated_good=("一点也不差", "没有什么可抱怨的", "挑不出毛病"),
    negated_bad=("不好", "不值这个价", "不是我想要的"),
    turns=("但是{aspect}{word}", "虽然{aspect}{word}", "只是{aspect}{word}"),
    review_forms=(
        "{word}。{aspect}{second}。",
        "这个{thing}{word}，{aspect}{second}。",
        "上周买的{thing}，{word}。",
        "{aspect}{second}，总的来说{word}。",
    ),
    fake=(
        "史上最好的{thing}！！五星好评，赶紧买！！",
        "产品很棒，卖家很棒，强烈推荐！！",
        "完美完美完美，每个人都应该买这个{thing}！",
    ),
    stop="",
    joint="，",
)

LEXICONS: dict[str, Lexicon] = {"en": ENGLISH, "zh": CHINESE}
