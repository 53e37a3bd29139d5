"""The words that may stand in an answer beside its mathematics without changing it: allow-lists, no deny-lists.

What is on no list makes an answer unparsed, so a list may be incomplete and must not be wrong: no word here scales a
number, negates, bounds or compares it. Lower case, in classes that :mod:`rewards.verifiers.prose` tells apart:
``FUNCTION`` words say nothing, ``UNITS`` may follow a number, ``NOUNS`` are what is counted, ``OTHERS`` are verbs, adjectives and
names, harmless in an answer but part of what a gold says, and ``SUBJECT`` holds the words that also may stand before
"is", where they say what is meant and not how much.
"""

from __future__ import annotations

FUNCTION = frozenset(
    """
    about all also altogether amount amounts an answer answers approximately are as at be because been being believe
    by calculate calculated calculating calculation came can choose come comes computed computing conclude concludes
    correct did do does dollar dollars during each enough equal equals equation evaluate evaluated every exactly
    explained explanation expression final finally find finds for found from gave get gets getting give given gives
    giving got had has have having he he's hence her here him his how i i'd i'll i'm in inclusive is it it's its
    just let's made make makes making me must my namely need needed needs now number numbers obtain obtained of ok
    okay on order our overall pick quantity respectively result results roughly rounded say she she's should
    simplified simplifies simplify simply since so solution solutions sum that that's the their them then there
    there's therefore these they think this those thus to told total totaling totals unit units us using value
    values was we we'd we'll well were what when which while who will with within would write written yes you your
    """.split()
)
UNITS = frozenset(
    """
    acre acres amp ampere amperes amps atm bit bits bpm buck bucks byte bytes calorie calories cc celsius cent
    centimeter centimeters centimetre centimetres cents centuries century cm coulomb coulombs cubic cup cups day
    days decade decades deg degree degrees dime dimes dm dollar dollars eur euro euros fahrenheit farad farads feet
    foot fps ft gal gallon gallons gb gbp ghz gm gram grams hectare hectares henries henry hour hours hp hr hrs hz
    in inch inches joule joules kb kcal kelvin kg kgs khz kilo kilogram kilograms kilometer kilometers kilometre
    kilometres kilos km kmh knot knots kpa kph kw kwh lb lbs liter liters litre litres mb meter meters metre metres
    mg mhz mi mile miles milligram milligrams milliliter milliliters millimeter millimeters min mins minute minutes
    ml mm mol moles month months mph newton newtons nickel nickels night nights nm ohm ohms ounce ounces oz pascal
    pascals pennies penny people person peso pesos pint pints pound pounds psi quart quarts rad radian radians rads
    rpm rupee rupees sec second seconds secs sq square tablespoon tablespoons tb tbsp teaspoon teaspoons tesla ton
    tonne tonnes tons tsp um unit units usd volt volts watt watts week weekday weekdays weekend weekends weeks yard
    yards yd yds year years yen yuan
    """.split()
)
NOUNS = frozenset(
    """
    able accessories accident accidentally accommodate account acorns action activities activity admission adopted
    ads adult adults afford afternoon age ages agreed agrees air airplane album albums alligators allowance allowed
    almond amusement angle animal animals answered antacids ants apartment apartments apiece appetizers apple apples
    applied apply aquarium arcade area arms arrangements arrive arrived arrives art articles asked asks assignment
    athlete athletes attend attendees attending auction aunt babies baby babysitting backyard bacon badges bag bags
    baker bakery balance bales ball balloon balloons balls banana bananas band bandages bands bank banks bar barbara
    barrel barrels bars baseball based basil basket basketball basketballs baskets batch batches bath bathroom
    battery beach beads beans bear bears beat bed bedroom bedrooms beds beef bees began begin beginning bell bench
    berries bet bicycle bicycles bid bike biked bikes bill bills biology bird birdhouse birds birth birthday
    biscuits blankets block blocks blood blouses blueberries blueberry board boat boats bobby body bolts bones bonus
    book books booth boots born bottle bottles bouncy bouquets bowl bowls box boxes boy boys bracelet bracelets
    branches brand bread break breakfast breaks bricks bridge broke bronze brother brothers brownie brownies bucket
    buckets budget bugs building buildings bulbs bulk bunch bunches bundles bunnies buns burger burgers burn burned
    burns bus buses bush bushels bushes business businesses busy butter butterflies buttons cafe cafeteria cage cake
    cakes calculator call called calls camera camp candidate candies candle candles candy canes cans capacity
    capital caps car card cards care cargo carnations carnival carriages carrot carrots cars cart carton cartons
    cash cashier cat cats cattle caused ceiling cell center central cereal chain chair chairs chalk chance changed
    changes channels chapter chapters characters charity cheese cheesecake cheesecakes chef cherries cherry chest
    chicken chickens child children chip chips chocolate chocolates choir chooses chop chores church circles cities
    city class classes classmates classroom classrooms clay cleaned cleaner cleaning client clients climb climbed
    climbs closed closet clothes clothing clouds cloves clownfish club coach coal coaster coat coats cobs coconut
    coconuts coffee coins collar collection college color colored colors combinations comic comics coming commission
    committees community company competing competition competitor complaints computer computers concert concrete
    conditioner cone cones consists construction consume consumed consumes consumption contact contacts container
    containers contest contribute contributed contribution cookie cookies cookout cool cooler copies copper corn
    coronavirus correctly cotton counter countries country couple couples coupon coupons course courses court cousin
    cousins cow cows crabs crackers craft crate crates crayons cream creams create created creates crickets
    croissants crows cubs cucumbers cupcakes curlers curries customer customers cutlery cuts cutting cycle dad
    daisies daisy damaged dance daps dark data daughter daughters deal decide decided decides deck decks decorate
    decorations deer delivers delivery department depth desk dessert destination detergent device diagonals dice
    diet dig digits dinner dinners direction discount discovered dish dishes display distance distributed divisors
    doctor dog dogs doing doll dolls dolphins donation donations done donut donuts door doors dough doughnuts
    download downloaded dragon draw drawing drawings dress dresses drew driven driver dry dryer duck ducklings ducks
    dye earnings earrings ears earth easter edges egg eggs electric electricity elementary elements elephant
    elephants elevation elevator elves emails employee employees enclosures ended energy enrolled enter entered
    entrance envelopes episode episodes equipment erasers essay evening evenly event exam exams exercise exercises
    expenses expensive experience express expressed eyes fabric face faces factors factory fair families family far
    farm farmer farmers fast fat father favorite feathers fed fee feed feeding feeds fees female females fence
    fencing fertilizer field figure figures files filling film finding fine fire firecrackers fires fireworks fish
    fisherman fishes fishing fit fix flag flags flashlight flat flavored flavors fleas flew flies flight flights
    flock floor floors flour flower flowering flowers fly flyers flying fold followers following food footage
    football forest forks forward frame frames french fresh fridge fried friend friends fries frog frogs frosting
    frozen fruit fruits fudge fuel fund fundraiser funds furniture gallery game games garage garbage garden gas
    gasoline gather gathered geese gemstones giant gift gifts ginger giraffes girl girls glass glasses glue gnomes
    goal goals goats gold golden goldfish golf good goods grade graders grades graham grandchildren grandma
    grandmother grandparents granola grant grape grapes grass groceries grocery groom ground group groups guest
    guests guitar guitars gum gumballs gummy guns guppies gym hair haircut haircuts haired hall ham hamburger
    hamburgers hand handed hands handshakes hank happy hard harvest harvested hat hats hay head heat heels height
    help hens herself hexagons highlighters highway hike hikes hill hills himself hired hires history hit hits hive
    hockey holding hole holes home homeless homes homework honey horse horses horseshoes hospital hotdogs hotel
    hourly house houses human humans hungry hunt hunter husband ice iced income individual inflate ingredients
    insects install insurance intake integers interest internet intersection invested investment iron island islands
    item items jackets jake jam jar jars jean jeans jello jelly jellybeans jellyfish jewelry jewels jimmy job jobs
    joe join joined journey juice jumping junior kangaroos kernels key keys kibble kid kids kind kinds king kitchen
    kite kittens knife knit knives knocked know knowing knows lab ladder laid lake lambs land lap laps laptop latest
    laundry lawn lawnmower lawns lay layer lays leaf learn learning leftover leg lego legos legs lemon lemonade
    lemons length lesson lessons letter letters lettuce levels library life lift lifting light lights likes lilies
    lily line lines lions lipstick liquid litter little living lizards load loaded loads loaf loan loaves local
    locker log logs lollipop lollipops looking lot lottery loves lunch macarons macaroons machine machines magazine
    magazines mail makeup male males mall man managed manager manages mango mangoes marathon marble marbles markers
    market marks married marshmallows masks mason master match matches matchsticks material materials math maths
    meal meals measure measures measuring meat meatballs mechanic medals medicine meet meeting member members men
    messages metal mice mike mileage milk milkshakes mirrors mix mixture mobile model models mom money monkey
    monkeys morning mother motorcycles mountain mouse move moved moves movie movies moving mow mowed mowing muffin
    muffins mugs mural museum mushrooms music nail nails name named national necklace necklaces neighbor
    neighborhood neighbors nephews newspaper newspapers nice normal normally notebook notebooks notes noticed
    notices novel novels numbers nuts oatmeal oats objects occupied ocean offer offered offering offers office oil
    olive omelet omelets onions online open opened opens oranges orchard outcomes outs oven overtime owner oysters
    pace package packages packet packets page pages paint painted painting paintings paints pair pairs pan pancakes
    panels pans pants paper paperclips papers parents park parking parks parrots participants particular parts party
    pass passed passengers passes passing pasta pastries patch paths patients patty paws paycheck payment payments
    peach peaches peanut peanuts pears pebbles pen pencil pencils penguins pens pepper pepperoni peppers perform
    performance performing perimeter period permutations personal pet petals pets petunias phone phones photo photos
    piano pickles picnic picture pictures pie piece pieces pies pig pigeons piggy pigs pile piles pills pine
    pineapple pins pizza pizzas plan plane planets planks planning plans plants plastic plate plates player players
    playground playlist plums pocket pods pointers points pokemon poles polygon polygons pond poodle pool pop
    popcorn popsicle popsicles population post postcards posters posts pot potato potatoes pots pours practice
    practiced practices practicing prefer prepared preparing present presents press pretzels price priced prices
    primes printed printer prize process production products program project promotion property protein public pull
    pulled pumpkin punch puppies puppy pups purchase purchased purchases purchasing push putting puzzle puzzles
    pyramid quilt quiz quizzes rabbit rabbits race racers rain rained rancher raspberries rate rats ray ready
    realized realizes receiving recently recipe recommended record recorded records rectangle rectangles rectangular
    recycling refill refrigerator relay released remain rental repair repairs reports research restaurant return
    reunion revenue revolutions reward rex ribbon rice ring rings ripe river road robots rock rocks roll roller
    rolls roof room rooms roots rope roses rotations rotten round rounds route row rows rubber ruby runner runners
    sacks said sail salad salary sale sales salmon salon salt sam sand sandbox sandwich sandwiches sat sauce sausage
    sausages savings says scarves scholarship school schools science scoop scoops screen sea seashells season
    seasons seat seats section sections seed seedlings seeds segments seller semester senior seniors sentence
    sentences sequins series service serving servings session sessions setting settings sew shampoo shark sharks
    sheep sheet sheets shelf shells shelter shelves shift ship shipping shirt shirts shoe shoes shooting shop
    shopping shots show showed shower shows shrimp siblings sick side sides sidewalk signs silver silverware sister
    sisters sit site sitting situps size skates skip skips skirts sky sled slept slice sliced slices slide snack
    snacks snail snails snake snakes sneakers snow snowballs soap soccer social socks soda sodas sodium soft soil
    soldiers solutions solve solving son song songs sons soup sour sours space spacecraft spaces special speed spicy
    spider spiders spiral spools spoons sports spot spots spotted spring squat squirrel squirrels stack stage stairs
    stamp stamps stand standard stands star stars state states station stationery statues stay stayed steak steaks
    stick stickers sticks stitches stock stone stones stop stops storage store stores stories storm story straight
    straw strawberries strawberry straws street streets string strings stripes student students studied studies
    study studying stuff stuffed subjects subscription subsets sugar suit summer sun sunflower sunflowers sunscreen
    supermarket supplier supplies supply surfers sweater sweaters sweet sweets swimming sword syrup system table
    tables tabs taco tadpoles talking tank tanks tape task tasks tax taxes tea teach teacher teachers teaches
    teaching team teams teddy teeth television televisions tells temperature tennis terms text textbook textbooks
    texts theater themselves thick thing things thinks threw throw throwing thrown throws ticket tickets tie ties
    tile tiles time tins tip tips tire tires tissues toads toast today toddlers toilet tokens told toll tomato
    tomatoes tomorrow tony tools tooth toothbrushes toothpicks touchdowns tour tournament towels tower towers town
    toy toys track tractor trade traded trades trading traffic trail train training trains transport trash tray
    trays treasure treats tree trees triangle triangles trinkets trip trips trolls trout truck trucks tub tubes tubs
    tuition tulips tuna turkeys turtle turtles twigs type types typical typing uncle uniforms unused upcoming
    utilities vacation vacuum valley vampire vampires vanilla various vase vegetable vegetables vehicle vehicles
    vendor vertices vet video videos vinegar visit visited visitors visits volume wage wages wait waiting wall
    wallet walls walnuts warehouse wash washed washes washing water watermelon watermelons wave wax way ways wear
    wearing wears web website wedding weeds weight weights whales wheel wheels whiskers widget widgets width wife
    window windows wine wings winner winter wipes wire woman women wood wooden wool words wore worker workers world
    worms wrap wrapping yarn yesterday yogurt zebra zebras zeros zombies zoo
    """.split()
)
OTHERS = frozenset(
    """
    annual annually ate attended available bake baked bakes baking became become becomes black blue borrow borrowed
    bought bring bringing brings brought brown build builds built buy buying buys carried carries carry carrying
    catch catches caught charge charged charges clean cold collect collected collecting collects complete completed
    completes consecutive contain contained containing contains cook cooked cooking cooks cost costs cover covered
    covers daily deep deliver delivered deliveries deposit deposited distinct donate donated donates drank drink
    drinking drinks drive drives driving drove earn earned earning earns eat eaten eating eats expected fill filled
    fills finish finished finishes finishing free go goes going gone gray green grew grey grow growing grown grows
    heavy held high hold holds hot identical invited jump jumped jumps keep keeps kept last lasted lasts leave
    leaves leaving left live lived lives long monthly new old orange ordered orders own owned owns pack packed
    packing packs paid pay paying pays per picked picking picks pink place placed places planned plant planted
    planting play played playing plays produce produced produces purple put puts ran reach reached reaches read
    reading reads receive received receives red regular remaining rent rented require required requires ride rides
    riding rode run running runs save saved saves saving saw see seen sees sell selling sells send sends sent serve
    served serves sized sleep sleeps sold spend spending spends spent start started starting starts swam swim swims
    tall travel traveled traveling travels use used uses walk walked walking walks want wanted wants watch watched
    watches watching weekly weigh weighed weighing weighs went white wide win winning wins won work worked working
    works writes writing wrote yearly yellow young
    aaron abigail adam ahmed alan albert alex alexander ali alice allison amanda amy andrea andrew andy angela ann
    anna anne annie anthony arnold arthur ashley austin ava barry beatrice becky bella ben bert beth betsy betty
    billy blake bob boris brad brandon brenda brendan brian brianna brittany bruce bryan caleb calvin cameron carl
    carla carlos carly carmen carol carrie carson carter cary casey chad charlie cheryl chris christina christine
    cindy claire clara cody cole connor corey craig dale dan dana daniel danielle danny dave david dawn derek diana
    diane diego donna dora dorothy dr eliza elizabeth ella ellen elsa emily emma eric erica erin evelyn frank
    frankie fred freddy gabriel gary george gerald gina grace grayson greg greta gretchen haley hannah harry helen
    ian isabella ivan jackie jackson jacob jamal james jamie jan jane janet janice jared jason javier jay jayden jed
    jeff jen jenna jennifer jenny jeremy jerome jerry jess jessica jessie jill jim joan joel joey john johnny
    johnson jon jones jordan jose joseph josh juan jude julia julie justin karen kate katie kayla kelly kelsey ken
    kendra kenneth kenny kevin kim kris kyle kylie lara larry laura layla lee leila leo liam linda lisa lola lucas
    lucy luke luna lydia madeline maggie mandy manny mara marco marcus marcy maria marie mario marta martha martin
    mary matt matthew maurice megan melanie melissa mia micah michael michelle milly mitchell molly monica mr mrs
    nancy nate nathan navin neil nick nicole nina noah olaf oliver olivia pam parker pat patrick paul paula pauline
    peggy pete peter phil phoebe polly rachel ralph randy raymond rebecca reese reggie remmy richard rick rob robert
    roger ron rory ryan sabrina sally samantha sammy samuel sandra sandy sara sarah sasha sean seth shane sheila
    shelly simon smith sophie stacy stan stephanie stephen steve steven sue susan susie sydney talia tammy tanya
    tara taylor ted terry theo thomas tiffany tim timothy tina tobias toby todd tommy tracy trevor trey tyler walter
    wanda wendy william xavier york zach zack zoe
    """.split()
)
SUBJECT = frozenset(
    """
    after amount angle any area asymptote average axis before between both case cases center chance change chosen
    circle circumference coefficient coefficients common compound cone constant coordinate coordinates cube cubed
    cylinder decimal decrease degree determinant diameter difference different digit digits directrix discount
    distance distances divisor domain edge edges eight element elements ellipse ellipsoid enclosed equation
    equilateral exists expression face faces factor factors fewer fifth first five foci focus formed four fourth
    fraction function gain graph greater greatest half height hexagon highest horizontal hyperbola if increase
    inequality inside integer integers intercept interest intersect inverse isosceles larger largest last least
    length letter lie lies line lines logarithm loss lowest magnitude many matrix maximum mean measure median
    minimum mode more most much multiple multiples new next nine number numbers octagon odds older one only ordered
    origin original other over pair pairs parabola parallel pentagon percent percentage perimeter plane point points
    polygon polynomial positive possible power powers price prime primes prism probability product profit pyramid
    quadrilateral quotient radius randomly range rate ratio real reciprocal rectangle rectangular region regular
    remainder remaining right root roots same second segment segments selected semicircle sequence series set seven
    shaded side sides single six slope smaller smallest speed sphere square squared such sum system tangency tangent
    ten term terms than third three trapezoid triangle two variable variables vector vectors vertex vertical
    vertices volume way ways where width younger
    """.split()
)
